//! What conditions decide, and what is said when they cannot.

use std::collections::BTreeMap;

use flyte_idl::core::{Binary, LiteralCollection, Primitive, Scalar, Union, Void};
use serde_json::json;

use super::*;

fn branch(condition: serde_json::Value, else_fail: bool) -> BranchSpec {
    let mut spec = json!({ "if": { "condition": condition, "then": "yes" } });
    if else_fail {
        spec["elseFail"] = json!({ "message": "not today" });
    }
    serde_json::from_value(spec).unwrap()
}

fn scalar(value: scalar::Value) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(value),
        }))),
        ..Literal::default()
    }
}

fn primitive(value: primitive::Value) -> Literal {
    scalar(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

fn union(inner: Literal) -> Literal {
    scalar(scalar::Value::Union(Box::new(Union {
        value: Some(Box::new(inner)),
        r#type: None,
    })))
}

fn list() -> Literal {
    Literal {
        value: Some(literal::Value::Collection(LiteralCollection::default())),
        ..Literal::default()
    }
}

fn inputs() -> LiteralMap {
    let minute = prost_types::Duration {
        seconds: 60,
        nanos: 0,
    };
    let five = || primitive(primitive::Value::Integer(5));
    let literals = [
        (".n", five()),
        (".x", primitive(primitive::Value::FloatValue(f64::NAN))),
        (".b", primitive(primitive::Value::Boolean(true))),
        (".d", primitive(primitive::Value::Duration(minute))),
        (".list", list()),
        (".union", union(five())),
    ];
    LiteralMap {
        literals: literals
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}

fn comparison(operator: &str, var: &str, right: serde_json::Value) -> serde_json::Value {
    json!({ "comparison": { "operator": operator, "leftValue": { "var": var }, "rightValue": { "primitive": right } } })
}

#[test]
fn comparisons_hold_as_the_reference_decides() {
    for (operator, var, right, expected) in [
        ("EQ", ".n", json!({ "integer": "5" }), true),
        ("NEQ", ".n", json!({ "integer": "5" }), false),
        ("GT", ".n", json!({ "integer": "4" }), true),
        ("GTE", ".n", json!({ "integer": "6" }), false),
        ("LT", ".x", json!({ "floatValue": 1.0 }), true),
        ("LTE", ".x", json!({ "floatValue": 1.0 }), true),
        ("EQ", ".b", json!({ "boolean": true }), true),
        ("GTE", ".d", json!({ "duration": "60.5s" }), true),
    ] {
        let condition = comparison(operator, var, right.clone());
        let expected = if expected {
            Choice::Arm("yes".into())
        } else {
            Choice::Fail("not today".into())
        };
        let decided = choose(&branch(condition, true), &inputs());
        assert_eq!(decided, Ok(expected), "{operator} {var} {right}");
    }
}

/// What `flytepropeller` 1.16.8 says of the same branch (its `pkg/controller/nodes/branch`).
#[test]
fn what_cannot_be_decided_is_said_in_the_words_of_the_reference() {
    let var = |name: &str| json!({ "var": name });
    let constant = |value: serde_json::Value| json!({ "primitive": value });
    let five = || constant(json!({ "integer": "5" }));
    let compare = |left: serde_json::Value, operator: &str, right: serde_json::Value| json!({ "comparison": { "operator": operator, "leftValue": left, "rightValue": right } });
    let good = || compare(var(".n"), "EQ", five());
    for (case, condition, theirs) in [
        (
            "no input of that name on the left",
            compare(var(".unknown"), "EQ", five()),
            "Failed to find Value for Variable [.unknown]",
        ),
        (
            "nor on the right",
            compare(five(), "EQ", var(".unknown")),
            "Failed to find Value for Variable [.unknown]",
        ),
        (
            "the left one is told where both are missing",
            compare(var(".left"), "EQ", var(".right")),
            "Failed to find Value for Variable [.left]",
        ),
        (
            "an operand that says nothing",
            compare(json!({}), "EQ", five()),
            "Failed to find Value for Variable []",
        ),
        (
            "a list on the left",
            compare(var(".list"), "EQ", five()),
            "Only primitives can be compared. LHS Variable is non primitive.",
        ),
        (
            "a list on the right of a constant",
            compare(five(), "EQ", var(".list")),
            "Only primitives can be compared. RHS Variable is non primitive.",
        ),
        (
            "a list on the right of an input",
            compare(var(".n"), "EQ", var(".list")),
            "Only primitives can be compared. RHS Variable is non primitive",
        ),
        (
            "a union that has a value",
            compare(var(".union"), "EQ", five()),
            "Only primitives can be compared. LHS Variable is non primitive.",
        ),
        (
            "an integer and a float",
            compare(var(".n"), "EQ", constant(json!({ "floatValue": 5.0 }))),
            "Comparison between different primitives types. \
             lVal[*core.Primitive_Integer]:rVal[*core.Primitive_FloatValue]",
        ),
        (
            "a text and a boolean",
            compare(constant(json!({ "stringValue": "true" })), "EQ", var(".b")),
            "Comparison between different primitives types. \
             lVal[*core.Primitive_StringValue]:rVal[*core.Primitive_Boolean]",
        ),
        (
            "a duration and a time",
            compare(
                var(".d"),
                "LT",
                constant(json!({ "datetime": "1970-01-01T00:02:00Z" })),
            ),
            "Comparison between different primitives types. \
             lVal[*core.Primitive_Duration]:rVal[*core.Primitive_Datetime]",
        ),
        (
            "a primitive that says nothing",
            compare(var(".n"), "EQ", constant(json!({}))),
            "Comparison between different primitives types. lVal[*core.Primitive_Integer]:rVal[<nil>]",
        ),
        (
            "booleans greater than",
            compare(var(".b"), "GT", var(".b")),
            "[GT] not defined for boolean operands.",
        ),
        (
            "booleans less than or equal",
            compare(var(".b"), "LTE", constant(json!({ "boolean": true }))),
            "[LTE] not defined for boolean operands.",
        ),
        (
            "a condition that says nothing",
            json!({}),
            "No Comparison or Conjunction found in Branch node expression.",
        ),
        (
            "a conjunction without a side",
            json!({ "conjunction": { "operator": "OR", "leftExpression": good() } }),
            "No Comparison or Conjunction found in Branch node expression.",
        ),
        (
            "a conjunction whose left side would do",
            json!({ "conjunction": { "operator": "OR", "leftExpression": good(),
                "rightExpression": compare(var(".unknown"), "EQ", five()) } }),
            "Failed to find Value for Variable [.unknown]",
        ),
        (
            "nothing holds",
            compare(var(".n"), "LT", five()),
            "No branch satisfied",
        ),
    ] {
        let error = choose(&branch(condition, false), &inputs()).unwrap_err();
        let expected = format!("[MalformedBranchUserError] {theirs}");
        assert_eq!(error.to_string(), expected, "{case}");
    }
}

#[test]
fn an_operator_of_a_newer_version_is_an_error() {
    let mut spec = branch(comparison("EQ", ".n", json!({ "integer": "5" })), false);
    if let Some(Expr::Comparison(comparison)) = &mut spec.case.condition.0.expr {
        comparison.operator = 77;
    }
    assert_eq!(
        choose(&spec, &inputs()).unwrap_err().to_string(),
        "[MalformedBranchUserError] Unsupported operator type in Propeller. System error."
    );
}

#[test]
fn whatever_has_a_value_is_not_none() {
    let none = || scalar(scalar::Value::NoneType(Void {}));
    let integer = || primitive(primitive::Value::Integer(5));
    let map = Literal {
        value: Some(literal::Value::Map(LiteralMap::default())),
        ..Literal::default()
    };
    for (case, value, is_none) in [
        ("none", none(), true),
        ("a union of none", union(none()), true),
        ("a union of a union of none", union(union(none())), true),
        ("an integer", integer(), false),
        ("a union of an integer", union(integer()), false),
        ("a list", list(), false),
        ("a map", map, false),
        (
            "a structure",
            scalar(scalar::Value::Generic(prost_types::Struct::default())),
            false,
        ),
        (
            "a dataclass",
            scalar(scalar::Value::Binary(Binary::default())),
            false,
        ),
    ] {
        let inputs = LiteralMap {
            literals: BTreeMap::from([(".x".to_owned(), value)]),
        };
        let operand = json!({ "scalar": { "noneType": {} } });
        for (operator, expected) in [("EQ", is_none), ("NEQ", !is_none)] {
            for (left, right) in [
                (json!({ "var": ".x" }), operand.clone()),
                (operand.clone(), json!({ "var": ".x" })),
            ] {
                let condition = json!({ "comparison": {
                    "operator": operator, "leftValue": left, "rightValue": right } });
                let decided = choose(&branch(condition, true), &inputs);
                let expected = if expected {
                    Choice::Arm("yes".into())
                } else {
                    Choice::Fail("not today".into())
                };
                assert_eq!(decided, Ok(expected), "{case} {operator}");
            }
        }
    }
}
