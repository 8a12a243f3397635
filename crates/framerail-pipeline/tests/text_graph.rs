//! From a linked text to a graph.
#![allow(clippy::unwrap_used)]

mod text_support;

use framerail_pipeline::{Description, check};
use text_support::registry;

#[test]
fn the_graph_has_a_node_for_each_stage_and_an_edge_to_each_but_the_source() {
    let (registry, _) = registry();
    let description = Description::parse("read a ! tee ( null ) ( infer c ! null ) ! sample every=2 name=cover ! null").unwrap();
    let plan = check(&description, &registry).unwrap_or_else(|errors| panic!("{errors}"));
    let made = plan.into_graph().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((made.nodes.len(), made.edges.len()), (7, 6));
    let tee = made.node("tee").unwrap();
    assert_eq!(made.edges_from(tee.id).count(), 3);
    let cover = made.node("cover").unwrap();
    assert_eq!((cover.stage.as_str(), made.node("sample").unwrap().id), ("sample", cover.id));
    for node in &made.nodes {
        assert_eq!(made.graph.nodes_named(&node.name).collect::<Vec<_>>(), [node.id]);
    }
    for edge in &made.edges {
        assert!(made.graph.edges_from(edge.from).any(|id| id == edge.id));
    }
}
