"""What every server on this machine's own address has: who may ask, which files, where it listens, how it ends."""
