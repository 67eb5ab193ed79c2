# PCs and industrial boards with an x86-64 processor; the baseline, no newer instructions.
emulator=
