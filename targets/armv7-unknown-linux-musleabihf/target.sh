# Raspberry Pi 2 and later with a 32-bit system, older industrial boards.
emulator="qemu-arm-static -cpu cortex-a7"
