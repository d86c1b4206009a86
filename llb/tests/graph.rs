//! What holds of every graph, whatever was added in whatever order.

use llb::{FileOp, GraphBuilder, Input, LocalSource, Metadata, Op, SourceOp};
use proptest::prelude::*;

/// The inputs of each vertex, as positions among those before it; few operations, so that many are equal.
fn additions() -> impl Strategy<Value = Vec<(u8, Vec<prop::sample::Index>)>> {
    prop::collection::vec((0..3u8, prop::collection::vec(any::<prop::sample::Index>(), 0..3)), 1..40)
}

fn op(number: u8) -> Op {
    match number {
        0 => Op::File(FileOp { has_base: false, actions: Vec::new() }),
        other => Op::Source(SourceOp::Local(LocalSource { name: other.to_string() })),
    }
}

fn add_all(builder: &mut GraphBuilder, additions: &[(u8, Vec<prop::sample::Index>)]) -> Vec<Input> {
    let platform = base::Platform::new("linux", "amd64", "");
    let mut added: Vec<Input> = Vec::new();
    for (number, inputs) in additions {
        let inputs: Vec<Input> = if added.is_empty() {
            Vec::new()
        } else {
            inputs.iter().map(|input| added[input.index(added.len())]).collect()
        };
        added.push(builder.add(op(*number), &platform, &inputs, Metadata::default()));
    }
    added
}

proptest! {
    #[test]
    fn inputs_come_before_consumers_and_each_knows_the_other(additions in additions()) {
        let mut builder = GraphBuilder::new();
        add_all(&mut builder, &additions);
        let graph = builder.finish().unwrap();
        prop_assert_eq!(graph.topological().len(), graph.len());
        for vertex in graph.topological() {
            for input in graph.inputs(*vertex) {
                prop_assert!(input.vertex < *vertex);
                prop_assert!(graph.consumers(input.vertex).contains(vertex));
            }
            for consumer in graph.consumers(*vertex) {
                prop_assert!(graph.inputs(consumer).iter().any(|input| input.vertex == *vertex));
            }
        }
    }

    #[test]
    fn adding_all_again_adds_nothing(additions in additions()) {
        let mut builder = GraphBuilder::new();
        let first = add_all(&mut builder, &additions);
        let again = add_all(&mut builder, &additions);
        prop_assert_eq!(&first, &again);
        let graph = builder.finish().unwrap();
        let ids: std::collections::HashSet<_> =
            graph.topological().iter().map(|vertex| graph.vertex(*vertex).id).collect();
        prop_assert_eq!(ids.len(), graph.len());
    }
}
