//! Apple's `container`: one lightweight VM per container, asked through its command line.

pub mod shapes;
