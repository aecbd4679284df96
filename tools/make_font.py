"""Make the font of all pictures, `src/cytolite/assets/font`, of Source Sans 3 as its authors publish it.

One weight of the variable font, with the tables that drawing needs. Under its licence (OFL 1.1) a changed version must
not have the reserved name, so it is called Cytolite Sans; the licence and the authors' notice stay with it.

    pip install fonttools
    python tools/make_font.py 'SourceSans3[wght].ttf'
"""

import argparse
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

FAMILY = "Cytolite Sans"
TARGET = Path(__file__).parents[1] / "src/cytolite/assets/font/CytoliteSans-Regular.ttf"
# Entries of the name table: family, style, unique name, full name, PostScript name, and the families of typographers.
NAMES = {1: FAMILY, 2: "Regular", 3: f"{FAMILY} Regular", 4: f"{FAMILY} Regular", 6: "CytoliteSans-Regular"}
DROPPED = (16, 17, 21, 22, 25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="variable TTF of Source Sans 3")
    font = instancer.instantiateVariableFont(TTFont(parser.parse_args().source), {"wght": 400})
    options = subset.Options(layout_features=["kern", "mark", "mkmk", "ccmp", "locl"], hinting=False, name_IDs=["*"])
    options.drop_tables += ["DSIG", "STAT"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=font.getBestCmap())
    subsetter.subset(font)
    names = font["name"]
    names.names = [entry for entry in names.names if entry.nameID not in DROPPED and entry.nameID < 256]
    for number, text in NAMES.items():
        names.setName(text, number, 3, 1, 0x409)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    font.save(TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, {len(font.getBestCmap()):,} characters")


if __name__ == "__main__":
    main()
