# Raspberry Pi 1 and Zero: ARMv6 with a floating-point unit.
emulator="qemu-arm-static -cpu arm1176"
