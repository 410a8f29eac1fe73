//! The counts of spec 08 B1: nothing is missing from the protocol and nothing was added.

use flyte_idl::descriptors;

#[test]
fn the_protocol_has_as_many_parts_as_the_published_one() {
    let files: Vec<_> = descriptors::pool()
        .files()
        .filter(|file| file.name().starts_with("flyteidl/"))
        .collect();
    let messages: Vec<_> = files
        .iter()
        .flat_map(|file| file.messages().collect::<Vec<_>>())
        .collect();
    let mut nested = messages.clone();
    let mut all = Vec::new();
    while let Some(message) = nested.pop() {
        nested.extend(message.child_messages());
        if !message.is_map_entry() {
            all.push(message);
        }
    }
    let sum =
        |of: &dyn Fn(&prost_reflect::MessageDescriptor) -> usize| all.iter().map(of).sum::<usize>();
    let enums: Vec<_> = files
        .iter()
        .flat_map(|file| file.enums().collect::<Vec<_>>())
        .chain(
            all.iter()
                .flat_map(|message| message.child_enums().collect::<Vec<_>>()),
        )
        .collect();
    let services: Vec<_> = files
        .iter()
        .flat_map(|file| file.services().collect::<Vec<_>>())
        .collect();
    for (part, counted, expected) in [
        ("files", files.len(), 63),
        ("top-level messages", messages.len(), 432),
        ("messages", all.len(), 437),
        ("fields", sum(&|message| message.fields().len()), 1308),
        (
            "map fields",
            sum(&|message| {
                message
                    .fields()
                    .filter(prost_reflect::FieldDescriptor::is_map)
                    .count()
            }),
            31,
        ),
        ("oneofs", sum(&|message| message.oneofs().len()), 63),
        ("enums", enums.len(), 53),
        (
            "enum values",
            enums.iter().map(|kind| kind.values().len()).sum(),
            205,
        ),
        ("services", services.len(), 11),
        (
            "methods",
            services.iter().map(|service| service.methods().len()).sum(),
            92,
        ),
    ] {
        assert_eq!(counted, expected, "{part}");
    }
}
