# Raspberry Pi 3 and later with a 64-bit system, most gateways.
emulator="qemu-aarch64-static -cpu cortex-a53"
