//! A thousand levels of nesting work in everything that walks types, literals and workflows, on the stacks that
//! services are given (16 MiB); what is deeper never arrives (flyte_idl::nesting).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flyte_core::{
    compiler::{Rules, compile_workflow, requirements},
    digest, literals, types,
};
use flyte_idl::{
    core::{
        BooleanExpression, BranchNode, ComparisonExpression, Error, GateNode, IfBlock, IfElseBlock,
        LiteralType, Node, Operand, Primitive, SimpleType, SleepCondition, WorkflowTemplate,
        boolean_expression, gate_node, if_else_block, literal_type::Type, node::Target, operand,
        primitive,
    },
    descriptors,
    nesting::{self, MAX_LEVELS},
    text::prototext,
};
use prost::Message as _;

fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

fn nested_list(levels: usize) -> LiteralType {
    (0..levels).fold(types::simple(SimpleType::Integer), |inner, _| {
        types::collection(inner)
    })
}

#[test]
fn types_and_literals_of_a_thousand_levels_are_handled() {
    on_a_large_stack(|| {
        let declared = nested_list(MAX_LEVELS);
        let literal = (0..MAX_LEVELS).fold(literals::integer(1), |inner, _| {
            literals::collection(vec![inner])
        });
        let inferred = types::of_literal(&literal).unwrap();
        assert_eq!(inferred, declared);
        assert!(types::castable(&inferred, &declared));
        assert!(!types::castable(&inferred, &nested_list(MAX_LEVELS - 1)));
        assert!(prototext(&declared).contains("simple:INTEGER"));
        let bytes = literal.encode_to_vec();
        let found = nesting::scan(&descriptors::message::<flyte_idl::core::Literal>(), &bytes);
        assert!(found.is_ok());
        let again = flyte_idl::core::Literal::decode(bytes.as_slice()).unwrap();
        assert_eq!(
            digest::of_message(&again).unwrap(),
            digest::of_message(&literal).unwrap()
        );
    });
}

#[test]
fn structs_of_a_thousand_levels_fit_themselves() {
    on_a_large_stack(|| {
        let schema = (0..400).fold(
            serde_json::json!({"type": "integer"}),
            |inner, _| serde_json::json!({"type": "object", "properties": {"a": inner}}),
        );
        let metadata = |title: &str| {
            let mut schema = schema.clone();
            schema
                .as_object_mut()
                .unwrap()
                .insert("title".into(), title.into());
            flyte_idl::json::json_to_struct(schema.as_object().unwrap())
        };
        let of = |title: &str| LiteralType {
            r#type: Some(Type::Simple(SimpleType::Struct as i32)),
            metadata: Some(metadata(title)),
            ..Default::default()
        };
        assert!(types::castable(&of("a"), &of("b")));
    });
}

fn one() -> Operand {
    Operand {
        val: Some(operand::Val::Scalar(flyte_idl::core::Scalar {
            value: Some(flyte_idl::core::scalar::Value::Primitive(Primitive {
                value: Some(primitive::Value::Integer(1)),
            })),
        })),
    }
}

fn branch(id: &str, inner: Node) -> Node {
    let condition = BooleanExpression {
        expr: Some(boolean_expression::Expr::Comparison(ComparisonExpression {
            operator: 0,
            left_value: Some(one()),
            right_value: Some(one()),
        })),
    };
    Node {
        id: id.into(),
        target: Some(Target::BranchNode(Box::new(BranchNode {
            if_else: Some(Box::new(IfElseBlock {
                case: Some(Box::new(IfBlock {
                    condition: Some(condition),
                    then_node: Some(Box::new(inner)),
                })),
                other: Vec::new(),
                default: Some(if_else_block::Default::Error(Error::default())),
            })),
        }))),
        ..Default::default()
    }
}

#[test]
fn branches_of_a_thousand_levels_compile() {
    on_a_large_stack(|| {
        let sleep = Node {
            id: "s".into(),
            target: Some(Target::GateNode(GateNode {
                condition: Some(gate_node::Condition::Sleep(SleepCondition::default())),
            })),
            ..Default::default()
        };
        let nested = (0..MAX_LEVELS).fold(sleep, |inner, _| branch("b", inner));
        let template = WorkflowTemplate {
            nodes: vec![nested],
            ..Default::default()
        };
        assert!(requirements(&template, &[]).is_ok());
        let closure = compile_workflow(template, vec![], vec![], &[], Rules::Strict).unwrap();
        let bytes = closure.encode_to_vec();
        let descriptor = descriptors::message::<flyte_idl::core::CompiledWorkflowClosure>();
        assert!(nesting::scan(&descriptor, &bytes).is_ok());
    });
}
