//! Signals: which values a gate takes (spec 01 §17).

use flyte_core::types::{self, castable};
use flyte_idl::{
    core::{self, SimpleType},
    text,
};
use prost::Message;

use crate::error::{Error, Result};

/// The most bytes, encoded, of a value or a type that an error shows: more is cut from the error anyway, and the text of
/// a message takes hundreds of times its memory, and time by the square of its depth.
const MAX_SHOWN: usize = 4 * 1024;

fn shown(size: usize, text: impl FnOnce() -> String) -> String {
    if size > MAX_SHOWN {
        return format!("{size} bytes");
    }
    text()
}

/// Checks that `value` can be cast to the type that the gate declared, or that to the value's: the reference asks the
/// wrong way round, and clients rely on it (spec 08 A17.3).
///
/// # Errors
/// INVALID_ARGUMENT with the value and the declared type.
pub(crate) fn require_castable(declared: &core::LiteralType, value: &core::Literal) -> Result<()> {
    let refused = || {
        // The schema of a dataclass is not shown.
        let printed = if types::is_simple(declared, SimpleType::Struct) {
            declared.structure.as_ref().map_or(0, Message::encoded_len)
        } else {
            declared.encoded_len()
        };
        Error::Invalid(format!(
            "requested signal value [{}] is not castable to existing signal type [{}]",
            shown(value.encoded_len(), || text::prototext(value)),
            shown(printed, || types::text(Some(declared)))
        ))
    };
    let given = types::of_literal(value).map_err(|_unknown| refused())?;
    if castable(declared, &given) || castable(&given, declared) {
        Ok(())
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flyte_idl::core::{
        Literal, LiteralCollection, LiteralType, Primitive, Scalar, literal, primitive, scalar,
    };
    use prost_types::{Struct, Value, value::Kind};

    use super::*;

    fn integers(count: usize) -> Literal {
        let integer = Literal {
            value: Some(literal::Value::Scalar(Box::new(Scalar {
                value: Some(scalar::Value::Primitive(Primitive {
                    value: Some(primitive::Value::Integer(1)),
                })),
            }))),
            ..Default::default()
        };
        Literal {
            value: Some(literal::Value::Collection(LiteralCollection {
                literals: vec![integer; count],
            })),
            ..Default::default()
        }
    }

    fn refusal(declared: &LiteralType, value: &Literal) -> String {
        require_castable(declared, value).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_shows_what_is_small_and_the_size_of_what_is_not() {
        let integer = types::simple(SimpleType::Integer);
        assert_eq!(
            refusal(&integer, &integers(1)),
            "requested signal value [collection:{literals:{scalar:{primitive:{integer:1}}}}] is not castable to existing signal type [simple:INTEGER]"
        );
        assert_eq!(
            refusal(&integer, &integers(80_000)),
            "requested signal value [640004 bytes] is not castable to existing signal type [simple:INTEGER]"
        );
        let wide = types::union(vec![types::simple(SimpleType::String); 3_000]);
        assert_eq!(
            refusal(&wide, &integers(0)),
            "requested signal value [collection:{}] is not castable to existing signal type [12003 bytes]"
        );
        let schema = Value {
            kind: Some(Kind::StringValue("x".repeat(10_000))),
        };
        let dataclass = LiteralType {
            metadata: Some(Struct {
                fields: BTreeMap::from([("schema".to_owned(), schema)]),
            }),
            ..types::simple(SimpleType::Struct)
        };
        assert_eq!(
            refusal(&dataclass, &integers(0)),
            "requested signal value [collection:{}] is not castable to existing signal type [simple: STRUCT structure{}]"
        );
    }
}
