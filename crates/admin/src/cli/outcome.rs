//! What commands come to.

use std::error::Error;

/// What a command comes to; its error is shown to who gave it.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;
