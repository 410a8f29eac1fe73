//! Signals: which values a gate takes (spec 01 §17).

use flyte_core::types::{self, castable};
use flyte_idl::{core, text};

use crate::error::{Error, Result};

/// Checks that `value` can be cast to the type that the gate declared, or that to the value's: the reference asks the
/// wrong way round, and clients rely on it (spec 08 A17.3).
///
/// # Errors
/// INVALID_ARGUMENT with the value and the declared type.
pub(crate) fn require_castable(declared: &core::LiteralType, value: &core::Literal) -> Result<()> {
    let refused = || {
        Error::Invalid(format!(
            "requested signal value [{}] is not castable to existing signal type [{}]",
            text::prototext(value),
            types::text(Some(declared))
        ))
    };
    let given = types::of_literal(value).map_err(|_unknown| refused())?;
    if castable(declared, &given) || castable(&given, declared) {
        Ok(())
    } else {
        Err(refused())
    }
}
