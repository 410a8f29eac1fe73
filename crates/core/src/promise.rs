//! What a promise names: a variable of a node, an element of it, and attributes below (spec 08 A8.2). The
//! compiler checks it, the engine follows it.

use std::sync::LazyLock;

use flyte_idl::core::{LiteralType, literal_type::Type};
use regex::Regex;

/// `name`, or `[2].name` for an element of a list.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:\[([0-9]+)\]\.)?([0-9A-Za-z_]+)").expect("the pattern is a constant")
});

/// The variable that a promise names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Its name among the outputs of the node.
    pub name: &'a str,
    /// The element, when the variable is a list and the promise names one.
    pub index: Option<usize>,
}

/// Reads the `var` of a promise: a variable of exactly this name if `exists` knows it, else what the pattern
/// finds if it finds it exactly once. The reference knows only the pattern, which takes `a-b` for two variables
/// (spec 08 A18, 12).
pub fn parse_variable(text: &str, exists: impl Fn(&str) -> bool) -> Option<Variable<'_>> {
    if exists(text) {
        return Some(Variable {
            name: text,
            index: None,
        });
    }
    let mut matches = VARIABLE.captures_iter(text);
    let only = matches.next()?;
    if matches.next().is_some() {
        return None;
    }
    let index = match only.get(1) {
        Some(index) => Some(index.as_str().parse().ok()?),
        None => None,
    };
    Some(Variable {
        name: only.get(2)?.as_str(),
        index,
    })
}

/// The type of an attribute: the element of a list, the value of a map, the field of a dataclass; of anything
/// else, itself. `None` for a field that the dataclass does not have.
pub fn attribute_type<'a>(source: &'a LiteralType, key: &str) -> Option<&'a LiteralType> {
    match &source.r#type {
        Some(Type::CollectionType(element)) => return Some(element),
        Some(Type::MapValueType(value)) => return Some(value),
        _ => {}
    }
    match &source.structure {
        Some(structure) if !structure.dataclass_type.is_empty() => {
            structure.dataclass_type.get(key)
        }
        _ => Some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_by_name_first_and_by_pattern_second() {
        for (text, known, expected) in [
            ("o0", "", Some(("o0", None))),
            ("[2].x", "", Some(("x", Some(2)))),
            ("a-b", "a-b", Some(("a-b", None))),
            ("a-b", "", None),
            ("", "", None),
            ("a b", "", None),
            ("[99999999999999999999999].x", "", None),
            (".x", "", Some(("x", None))),
        ] {
            let found = parse_variable(text, |name| !name.is_empty() && name == known);
            assert_eq!(
                found.map(|found| (found.name, found.index)),
                expected,
                "{text}"
            );
        }
    }
}
