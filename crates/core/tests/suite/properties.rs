//! What holds for every input: texts from outside never panic, what prints is read back, and the compiler's
//! verdict does not depend on the order of nodes.

use flyte_core::{
    compiler::{Rules, compile_workflow},
    duration, names,
    quantity::Quantity,
    reference, unique_id,
};
use flyte_idl::core::{
    Binding, BindingData, GateNode, Node, OutputReference, SignalCondition, SimpleType,
    WorkflowTemplate, binding_data, gate_node, node::Target,
};
use proptest::prelude::*;

/// Gates that wait for each other at random: `n0` to `n7`, and `n8`, `n9`, which do not exist.
fn gates() -> impl Strategy<Value = Vec<Node>> {
    let waits = prop::collection::vec(0..10usize, 0..3);
    prop::collection::vec((waits, any::<bool>()), 1..8).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate();
        nodes
            .map(|(index, (waits, approves))| gate(index, &waits, approves))
            .collect()
    })
}

fn gate(index: usize, waits: &[usize], approves: bool) -> Node {
    // What an approval takes it gives, so that the first input makes the output that others take.
    let approves = approves && !waits.is_empty();
    let names = std::iter::once("o".to_owned()).chain((1..).map(|n| format!("v{n}")));
    let inputs = waits.iter().zip(names).map(|(node, var)| Binding {
        var,
        binding: Some(BindingData {
            value: Some(binding_data::Value::Promise(OutputReference {
                node_id: format!("n{node}"),
                var: "o".into(),
                attr_path: Vec::new(),
            })),
            ..Default::default()
        }),
    });
    let condition = if approves {
        gate_node::Condition::Approve(flyte_idl::core::ApproveCondition::default())
    } else {
        gate_node::Condition::Signal(SignalCondition {
            signal_id: "s".into(),
            r#type: Some(flyte_core::types::simple(SimpleType::Boolean)),
            output_variable_name: "o".into(),
        })
    };
    Node {
        id: format!("n{index}"),
        upstream_node_ids: waits.iter().map(|node| format!("n{node}")).collect(),
        inputs: if approves {
            inputs.collect()
        } else {
            Vec::new()
        },
        target: Some(Target::GateNode(GateNode {
            condition: Some(condition),
        })),
        ..Default::default()
    }
}

fn verdict(nodes: Vec<Node>) -> String {
    let template = WorkflowTemplate {
        nodes,
        ..Default::default()
    };
    match compile_workflow(template, vec![], vec![], &[], Rules::Strict) {
        Ok(closure) => {
            let connections = closure.primary.and_then(|primary| primary.connections);
            format!("{connections:?}")
        }
        // Which node of a circle of approvals is named depends on where the circle is entered.
        Err(_) => "refused".to_owned(),
    }
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_order_of_nodes(nodes in gates(), seed in any::<usize>()) {
        let mut shuffled = nodes.clone();
        let middle = seed % shuffled.len();
        shuffled.rotate_left(middle);
        prop_assert_eq!(verdict(nodes.clone()), verdict(shuffled));
        let reversed: Vec<Node> = nodes.iter().cloned().rev().collect();
        prop_assert_eq!(verdict(nodes), verdict(reversed));
    }

    #[test]
    fn durations_are_read_as_they_print(nanoseconds in any::<i64>()) {
        prop_assert_eq!(duration::parse(&duration::format(nanoseconds)), Ok(nanoseconds));
    }

    #[test]
    fn quantities_are_read_as_they_print(number in -1_000_000_000i64..1_000_000_000, suffix in "(n|u|m||k|M|G|Ki|Mi|Gi|e3|E-3)") {
        let quantity: Quantity = format!("{number}{suffix}").parse().unwrap();
        let canonical: Quantity = quantity.canonical().parse().unwrap();
        prop_assert_eq!(&canonical, &quantity);
        prop_assert_eq!(canonical.canonical(), quantity.canonical());
    }

    #[test]
    fn arbitrary_texts_never_panic(text in any::<String>(), max in 0usize..70) {
        let _ignored = text.parse::<Quantity>();
        let _ignored = duration::parse(&text);
        let _ignored = names::qualified_name(&text);
        let _ignored = names::execution_name(&text);
        let _ignored = unique_id::base32_decode(&text);
        let _ignored = unique_id::object_name(&text);
        if let Ok(id) = unique_id::fixed_length(&text, max, unique_id::Width::Bits64) {
            prop_assert!(id.len() <= max);
        }
        prop_assert!(names::label_value(&names::sanitized_label_value(&text)).is_empty());
    }

    #[test]
    fn references_stay_below_their_bucket(parts in prop::collection::vec(any::<String>(), 1..5)) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if let Ok(uri) = reference::construct("s3://bucket", &parts) {
            let object = reference::object(&uri);
            if let Ok(object) = object {
                prop_assert_eq!(object.container, "bucket");
            }
        }
    }

    #[test]
    fn base32_is_read_as_it_is_written(bytes in any::<Vec<u8>>()) {
        prop_assert_eq!(unique_id::base32_decode(&unique_id::base32(&bytes)), Some(bytes));
    }
}
