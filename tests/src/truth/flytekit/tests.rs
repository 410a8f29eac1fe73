use crate::truth::{evaluate, flytekit, generate::generate, program::Runs, templates};

#[test]
fn what_flytekit_says_compiles_and_is_numbered_by_its_calls() {
    let written: Vec<_> = (0..300)
        .filter_map(|seed| flytekit::write(&generate(seed), &format!("s{seed}")).ok())
        .collect();
    assert!(
        written.len() > 60,
        "only {} of 300 can be written",
        written.len()
    );
    for one in &written {
        templates::resource(&one.program).unwrap_or_else(|why| panic!("{why}: {}", one.source));
        evaluate::evaluate_at_any_pace(&one.program);
        for workflow in &one.program.workflows {
            for (index, node) in workflow.nodes.iter().enumerate() {
                assert_eq!(node.id, format!("n{index}"));
            }
        }
    }
    let all: String = written.iter().map(|one| one.source.as_str()).collect();
    for part in [
        ".elif_(",
        ".fail(",
        "before(",
        "on_failure=",
        " & ",
        " | ",
        "None",
        "Record(",
        "with_overrides(retries=",
        "AFTERWARDS",
        "[1]",
        "[\"two\"]",
    ] {
        assert!(all.contains(part), "no program has {part}");
    }
}

#[test]
fn a_failure_handler_takes_all_inputs_of_its_workflow() {
    let handlers = (0..300)
        .filter_map(|seed| flytekit::write(&generate(seed), "s").ok())
        .flat_map(|one| {
            let tasks = one.program.tasks;
            one.program
                .workflows
                .into_iter()
                .filter_map(move |workflow| {
                    let handler = workflow.on_failure?;
                    let Runs::Task(index) = handler.runs else {
                        return None;
                    };
                    Some((workflow.inputs, tasks[index].inputs.clone(), handler.inputs))
                })
        });
    let mut seen = 0;
    for (inputs, of_task, bound) in handlers {
        seen += 1;
        assert!(
            inputs
                .iter()
                .all(|(name, kind)| of_task.get(name) == Some(kind))
        );
        assert!(of_task.keys().eq(bound.keys()));
    }
    assert!(seen > 10);
}
