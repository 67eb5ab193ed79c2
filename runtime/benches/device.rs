//! What the device costs beside what its disk and its network cost.
fn main() {
    println!("{}", env!("CARGO_BIN_EXE_pannier"));
}
