"""What a result's cells say of the tumour's surroundings: densities, regions, measures with intervals, a report.

Reads result folders alone. Lengths are in um and areas in um2 throughout this room; level-0 pixels begin where files
are read and written.
"""
