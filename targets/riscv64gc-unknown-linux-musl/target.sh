# Boards with a 64-bit RISC-V processor.
emulator="qemu-riscv64-static"
