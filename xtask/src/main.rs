//! Chores of the workspace that need code.
fn main() {}
