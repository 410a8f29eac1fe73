//! What a compilation takes of memory is in proportion to the message that it compiles. The allocator counts for the whole
//! process, so this is a binary of its own with one test.

use flyte_core::compiler::{Rules, compile_workflow};
use flyte_idl::core::{
    BranchNode, CompiledTask, Container, Identifier, IfBlock, IfElseBlock, Node, TaskNode,
    TaskTemplate, TypedInterface, WorkflowTemplate, node::Target, task_node, task_template,
};
use peak_alloc::PeakAlloc;
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn task_id() -> Identifier {
    Identifier {
        resource_type: 1,
        name: "t".to_owned(),
        ..Default::default()
    }
}

fn task() -> CompiledTask {
    CompiledTask {
        template: Some(TaskTemplate {
            id: Some(task_id()),
            interface: Some(TypedInterface::default()),
            target: Some(task_template::Target::Container(Container::default())),
            ..Default::default()
        }),
    }
}

fn of_task(id: String) -> Node {
    Node {
        id,
        target: Some(Target::TaskNode(TaskNode {
            reference: Some(task_node::Reference::ReferenceId(task_id())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn branch(cases: usize) -> Node {
    Node {
        id: "b".to_owned(),
        target: Some(Target::BranchNode(Box::new(BranchNode {
            if_else: Some(Box::new(IfElseBlock {
                other: vec![IfBlock::default(); cases],
                ..Default::default()
            })),
        }))),
        ..Default::default()
    }
}

#[test]
fn memory_of_a_compilation_is_in_proportion_to_the_message() {
    let id = Identifier {
        name: "w".to_owned(),
        ..Default::default()
    };
    let empty = |count: usize| vec![Node::default(); count];
    let named = |count: usize| {
        (0..count)
            .map(|index| Node {
                id: format!("n{index}"),
                ..Default::default()
            })
            .collect()
    };
    let tasks = |count: usize| {
        (0..count)
            .map(|index| of_task(format!("n{index}")))
            .collect::<Vec<_>>()
    };
    let chained = |count: usize| {
        let mut nodes = tasks(count);
        for (index, node) in nodes.iter_mut().enumerate().skip(1) {
            node.upstream_node_ids = vec![format!("n{}", index - 1)];
        }
        nodes
    };
    let cases: [(&str, Vec<Node>, bool); 5] = [
        ("nodes without anything", empty(30_000), false),
        ("nodes without what they run", named(30_000), false),
        ("a branch without conditions", vec![branch(30_000)], false),
        ("tasks side by side", tasks(15_000), true),
        ("tasks one after the other", chained(15_000), true),
    ];
    for (case, nodes, compiles) in cases {
        let template = WorkflowTemplate {
            id: Some(id.clone()),
            interface: Some(TypedInterface::default()),
            nodes,
            ..Default::default()
        };
        for rules in [Rules::Strict, Rules::Reference] {
            let bytes = template.encode_to_vec();
            let before = ALLOCATOR.current_usage();
            let template = WorkflowTemplate::decode(bytes.as_slice()).unwrap();
            let decoded = ALLOCATOR.current_usage() - before;
            // Where the first error is the end, nodes are not kept twice.
            let most = if case == "nodes without anything" && rules == Rules::Strict {
                decoded + decoded / 4
            } else {
                4 * decoded
            };
            ALLOCATOR.reset_peak_usage();
            let compiled = compile_workflow(template, vec![], vec![task()], &[], rules);
            assert_eq!(compiled.is_ok(), compiles, "{case}");
            let peak = ALLOCATOR.peak_usage() - before;
            println!(
                "{case} ({rules:?}): {} bytes, decoded {decoded}, peak {peak}",
                bytes.len()
            );
            assert!(
                peak < most,
                "{case} ({rules:?}): {decoded} bytes became {peak}"
            );
        }
    }
}
