//! Models in half precision: float32 weights and tensors become float16.
//!
//! Every float32 value gets a float16 twin. Operators that lose too much in float16, or that ONNX Runtime's CUDA provider does
//! not have in float16, stay in float32 between casts; so do inputs that the operator's definition wants in float32, such as
//! the scales of `Resize`, and the arithmetic that leads to them. Weights beyond float16's range are cut off, weights that
//! would vanish become its smallest number, and both are counted.
//!
//! Source: the ONNX operator documentation for element types; ONNX Runtime's table of operator kernels for what CUDA has.

use std::collections::{HashMap, HashSet};

use super::{
    number, text,
    wire::{WireError, fields, write_bytes},
};

mod graph;
mod operators;
mod tensor;

use graph::Graph;
use operators::{MustStay, slot_is_float32};
use tensor::Rounding;

/// Which ends of a model become float16 too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfEnds<'a> {
    /// The input that takes float16; others take float32 and are cast inside.
    pub input: Option<&'a str>,
    /// Outputs return float16; else they are cast to float32 at the end.
    pub outputs: bool,
}

/// A model in half precision, and counts of the conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfModel {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// Number of weights beyond ±65504, which were clamped.
    pub clamped: u64,
    /// Number of weights smaller than float16's smallest number (6e-8), which were set to it.
    pub raised: u64,
    /// Operators that still compute in float32.
    pub float32_nodes: usize,
}

/// Converts a model whose default operator set is version `opset`.
///
/// # Errors
/// Why it cannot be done: nested graphs, functions, or an operator that the conversion does not know.
pub fn to_half(model: &[u8], opset: u64, ends: HalfEnds<'_>) -> Result<HalfModel, String> {
    let graph = Graph::read(model).map_err(|problem| problem.to_string())?;
    Conversion::plan(graph, opset, ends)?.write(model).map_err(|_| "the model file is damaged".into())
}

/// The two forms of a float value, each with a name if it is needed.
#[derive(Clone, Debug, Default)]
struct Forms {
    float32: Option<String>,
    float16: Option<String>,
}

struct Conversion<'a> {
    graph: Graph<'a>,
    /// Whether a node computes in float32, in the order of the nodes.
    stays: Vec<bool>,
    forms: HashMap<&'a str, Forms>,
    ends: HalfEnds<'a>,
    rounding: Rounding,
}

impl<'a> Conversion<'a> {
    fn plan(graph: Graph<'a>, opset: u64, ends: HalfEnds<'a>) -> Result<Self, String> {
        let floats = graph.float_values()?;
        let stays = nodes_that_stay(&graph, &floats, opset);
        let mut planned = Self { graph, stays, forms: HashMap::new(), ends, rounding: Rounding::default() };
        planned.name_forms(&floats);
        Ok(planned)
    }

    /// Determines which forms of each value are needed, and their names.
    fn name_forms(&mut self, floats: &HashSet<&'a str>) {
        let mut wanted: HashMap<&'a str, (bool, bool)> = HashMap::new();
        for (node, stays) in self.graph.nodes.iter().zip(&self.stays) {
            for (slot, input) in node.inputs.iter().enumerate().filter(|(_, input)| floats.contains(*input)) {
                let (float32, float16) = wanted.entry(input).or_default();
                *if *stays || slot_is_float32(node.op, slot) { float32 } else { float16 } = true;
            }
        }
        let outputs: HashSet<&str> = self.graph.outputs.iter().copied().collect();
        for output in outputs.iter().filter(|output| floats.contains(*output)) {
            let (float32, float16) = wanted.entry(output).or_default();
            *if self.ends.outputs { float16 } else { float32 } = true;
        }
        let computed = self.graph.nodes.iter().zip(&self.stays).filter(|(node, _)| node.constant.is_none());
        let made_as_float32: HashMap<&str, bool> =
            computed.flat_map(|(node, stays)| node.outputs.iter().map(move |output| (*output, *stays))).collect();
        for value in floats {
            let (float32, float16) = wanted.get(value).copied().unwrap_or_default();
            let made = made_as_float32.get(value).copied();
            let made = made.or_else(|| self.graph.inputs.contains(value).then_some(self.ends.input != Some(*value)));
            // The form with the value's own name: the one that the caller sees, else the one that is computed.
            let own_is_float32 = if outputs.contains(value) { !self.ends.outputs } else { made.unwrap_or(!float16) };
            let other = || self.graph.unused_name(value, if own_is_float32 { "half" } else { "single" });
            let name = |is_float32: bool| if is_float32 == own_is_float32 { (*value).to_owned() } else { other() };
            let forms = Forms {
                float32: (float32 || made == Some(true)).then(|| name(true)),
                float16: (float16 || made == Some(false)).then(|| name(false)),
            };
            self.forms.insert(value, forms);
        }
    }

    fn write(mut self, model: &[u8]) -> Result<HalfModel, WireError> {
        let mut graph = Vec::with_capacity(model.len() / 2 + 4096);
        self.write_graph(&mut graph)?;
        let mut bytes = Vec::with_capacity(graph.len() + 256);
        for field in fields(model) {
            let field = field?;
            match field.number {
                number::MODEL_GRAPH => write_bytes(number::MODEL_GRAPH, &graph, &mut bytes),
                _ => bytes.extend_from_slice(field.raw),
            }
        }
        let computed = self.graph.nodes.iter().zip(&self.stays).filter(|(node, _)| node.constant.is_none());
        let float32_nodes = computed.filter(|(_, stays)| **stays).count();
        Ok(HalfModel { bytes, clamped: self.rounding.clamped, raised: self.rounding.raised, float32_nodes })
    }

    fn write_graph(&mut self, out: &mut Vec<u8>) -> Result<(), WireError> {
        for input in &self.graph.inputs {
            if let Some(Forms { float32: Some(float32), float16: Some(float16) }) = self.forms.get(input) {
                graph::write_cast(float32, float16, self.ends.input == Some(*input), out);
            }
        }
        for (node, stays) in self.graph.nodes.iter().zip(&self.stays) {
            if node.constant.is_some() {
                continue;
            }
            let form = |value: &str, is_float32: bool| {
                let forms = self.forms.get(value);
                let found = forms.and_then(|forms| if is_float32 { forms.float32.as_deref() } else { forms.float16.as_deref() });
                found.unwrap_or(value).to_owned()
            };
            let inputs: Vec<String> =
                node.inputs.iter().enumerate().map(|(slot, input)| form(input, *stays || slot_is_float32(node.op, slot))).collect();
            let outputs: Vec<String> = node.outputs.iter().map(|output| form(output, *stays)).collect();
            graph::write_node(node, &inputs, &outputs, !stays, out)?;
            for output in &node.outputs {
                if let Some(Forms { float32: Some(float32), float16: Some(float16) }) = self.forms.get(output) {
                    graph::write_cast(float32, float16, !stays, out);
                }
            }
        }
        self.write_weights(out)?;
        self.write_rest(out)
    }

    fn write_weights(&mut self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let constants = self.graph.nodes.iter().filter_map(|node| Some((*node.outputs.first()?, node.constant.as_ref()?)));
        for (name, tensor) in self.graph.weights.iter().map(|(name, tensor)| (*name, tensor)).chain(constants) {
            let Some(forms) = self.forms.get(name) else {
                write_bytes(number::GRAPH_INITIALIZER, tensor, out);
                continue;
            };
            if let Some(float16) = &forms.float16 {
                write_bytes(number::GRAPH_INITIALIZER, &tensor::half(tensor, float16, &mut self.rounding)?, out);
            }
            if let Some(float32) = &forms.float32 {
                write_bytes(number::GRAPH_INITIALIZER, &tensor::renamed(tensor, float32)?, out);
            }
        }
        Ok(())
    }

    /// What is neither node nor weight. Types noted for values in between are left out: the runtime works them out again.
    fn write_rest(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        for field in fields(self.graph.bytes) {
            let field = field?;
            let is_half = match field.number {
                number::GRAPH_NODE | number::GRAPH_INITIALIZER | number::GRAPH_VALUE_INFO => continue,
                number::GRAPH_INPUT => self.ends.input == Some(super::prepare::name_of(&field)?.as_str()),
                number::GRAPH_OUTPUT => self.ends.outputs,
                _ => false,
            };
            if is_half {
                write_bytes(field.number, &graph::with_half_elements(field.bytes()?)?, out);
            } else {
                out.extend_from_slice(field.raw);
            }
        }
        Ok(())
    }
}

/// Whether each node computes in float32: by its kind, or because all that it makes leads to an input that must be float32.
fn nodes_that_stay(graph: &Graph<'_>, floats: &HashSet<&str>, opset: u64) -> Vec<bool> {
    let mut stays: Vec<bool> = graph.nodes.iter().map(|node| operators::must_stay(node.op, opset) != MustStay::No).collect();
    keep_squares(graph, floats, &mut stays);
    // Per value: consumers, and those among them that want exact numbers.
    let mut uses: HashMap<&str, (usize, usize)> = HashMap::new();
    graph.outputs.iter().for_each(|output| uses.entry(output).or_default().0 += 1);
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let made: Vec<&(usize, usize)> =
            node.outputs.iter().filter(|output| floats.contains(*output)).filter_map(|output| uses.get(output)).collect();
        let leads_to_exact = !made.is_empty() && made.iter().all(|(all, exact)| all == exact);
        if leads_to_exact && let Some(stays) = stays.get_mut(index) {
            *stays = true;
        }
        let exact = leads_to_exact || operators::must_stay(node.op, opset) == MustStay::WithInputs;
        for (slot, input) in node.inputs.iter().enumerate() {
            let uses = uses.entry(input).or_default();
            uses.0 += 1;
            uses.1 += usize::from(exact || slot_is_float32(node.op, slot));
        }
    }
    stays
}

/// Keeps squares and what is summed of them in float32 until a root, a reciprocal or a division makes them small again: layers that
/// normalise, decomposed into single operators, square values of a few hundred, which leaves float16's range.
fn keep_squares(graph: &Graph<'_>, floats: &HashSet<&str>, stays: &mut [bool]) {
    let mut wide: HashSet<&str> = HashSet::new();
    for (node, stays) in graph.nodes.iter().zip(stays) {
        let takes_wide = node.inputs.iter().any(|input| wide.contains(input));
        let squares = match (node.op, &node.inputs[..]) {
            ("Pow", _) => true,
            ("Mul", [a, b]) => a == b && floats.contains(a),
            _ => false,
        };
        let passes = takes_wide && operators::keeps_magnitude(node.op);
        *stays |= squares || takes_wide;
        if squares || passes {
            wide.extend(node.outputs.iter().filter(|output| floats.contains(**output)));
        }
    }
}

fn name(bytes: &[u8]) -> Result<&str, graph::Problem> {
    std::str::from_utf8(bytes).map_err(|_| graph::Problem::Damaged(format!("a name that is not valid text: {}", text(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{ELEM_FLOAT, wire::write_number};

    fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|(field, bytes)| write_bytes(*field, bytes, &mut out));
        out
    }

    fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
        let inputs = inputs.iter().map(|input| (1, input.as_bytes()));
        let outputs = outputs.iter().map(|output| (2, output.as_bytes()));
        message(&inputs.chain(outputs).chain([(4, op.as_bytes())]).collect::<Vec<_>>())
    }

    fn value(name: &str) -> Vec<u8> {
        let mut tensor = Vec::new();
        write_number(number::TENSOR_TYPE_ELEM, ELEM_FLOAT, &mut tensor);
        message(&[(number::VALUE_NAME, name.as_bytes()), (number::VALUE_TYPE, &message(&[(number::TYPE_TENSOR, &tensor)]))])
    }

    fn weight(name: &str, floats: &[f32]) -> Vec<u8> {
        let tensor = tensor::of_floats(&floats.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(), true);
        tensor::renamed(&tensor, name).expect("own tensor")
    }

    fn model(nodes: &[Vec<u8>], weights: &[Vec<u8>], outputs: &[&str]) -> Vec<u8> {
        let mut graph = message(&nodes.iter().map(|node| (number::GRAPH_NODE, node.as_slice())).collect::<Vec<_>>());
        graph.extend(message(&weights.iter().map(|weight| (number::GRAPH_INITIALIZER, weight.as_slice())).collect::<Vec<_>>()));
        graph.extend(message(&[(number::GRAPH_INPUT, &value("x"))]));
        outputs.iter().for_each(|output| write_bytes(number::GRAPH_OUTPUT, &value(output), &mut graph));
        message(&[(number::MODEL_GRAPH, &graph)])
    }

    /// Each node as text, such as `Cast x/half -> x`.
    fn listing(model: &HalfModel) -> Vec<String> {
        let graph = Graph::read(&model.bytes).expect("still a model");
        graph.nodes.iter().map(|node| format!("{} {} -> {}", node.op, node.inputs.join(" "), node.outputs.join(" "))).collect()
    }

    #[test]
    fn the_ends_are_as_asked_for() {
        let model = model(&[node("Relu", &["x"], &["y"])], &[], &["y"]);
        let inside = to_half(&model, 13, HalfEnds::default()).expect("known operators");
        assert_eq!(listing(&inside), ["Cast x -> x/half", "Relu x/half -> y/half", "Cast y/half -> y"]);
        let whole = to_half(&model, 13, HalfEnds { input: Some("x"), outputs: true }).expect("known operators");
        assert_eq!(listing(&whole), ["Relu x -> y"]);
    }

    #[test]
    fn operators_that_lose_too_much_stay() {
        let nodes = [node("Relu", &["x"], &["a"]), node("ReduceL2", &["a"], &["b"]), node("Div", &["a", "b"], &["y"])];
        let half = to_half(&model(&nodes, &[], &["y"]), 13, HalfEnds { input: Some("x"), outputs: true }).expect("known operators");
        let expected = ["Relu x -> a", "Cast a -> a/single", "ReduceL2 a/single -> b", "Cast b -> b/half", "Div a b/half -> y"];
        assert_eq!((listing(&half), half.float32_nodes), (expected.map(str::to_owned).to_vec(), 1));
    }

    /// Layer normalisation of older exports: squares of a few hundred leave float16's range.
    #[test]
    fn squares_stay_until_they_are_small_again() {
        let nodes = [
            node("ReduceMean", &["x"], &["mean"]),
            node("Sub", &["x", "mean"], &["off"]),
            node("Pow", &["off", "two"], &["square"]),
            node("ReduceMean", &["square"], &["variance"]),
            node("Add", &["variance", "epsilon"], &["sum"]),
            node("Sqrt", &["sum"], &["deviation"]),
            node("Div", &["off", "deviation"], &["unit"]),
            node("Mul", &["unit", "unit"], &["y"]),
        ];
        let weights = [weight("two", &[2.0]), weight("epsilon", &[1e-12])];
        let half = to_half(&model(&nodes, &weights, &["y"]), 13, HalfEnds { input: Some("x"), outputs: true }).expect("known operators");
        let expected = [
            "ReduceMean x -> mean",
            "Sub x mean -> off",
            "Cast off -> off/single",
            "Pow off/single two -> square",
            "ReduceMean square -> variance",
            "Add variance epsilon -> sum",
            "Sqrt sum -> deviation",
            "Cast deviation -> deviation/half",
            "Div off deviation/half -> unit",
            "Cast unit -> unit/single",
            "Mul unit/single unit/single -> y/single",
            "Cast y/single -> y",
        ];
        assert_eq!(listing(&half), expected.map(str::to_owned));
        assert_eq!((half.raised, half.float32_nodes), (0, 5));
    }

    /// A scale of 1.7066667 in float16 would give one column too few.
    #[test]
    fn scales_and_what_they_are_made_of_stay_exact() {
        let nodes = [node("Mul", &["s", "t"], &["scales"]), node("Resize", &["x", "", "scales"], &["a"]), node("Mul", &["a", "t"], &["y"])];
        let weights = [weight("s", &[1.0, 1.0, 2.0, 1.706_666_7]), weight("t", &[1.0, 1.0, 1e6, 1.0])];
        let half = to_half(&model(&nodes, &weights, &["y"]), 13, HalfEnds { input: Some("x"), outputs: true }).expect("known operators");
        let expected = ["Mul s t/single -> scales", "Resize x  scales -> a", "Mul a t -> y"];
        assert_eq!(listing(&half), expected);
        assert_eq!((half.clamped, half.raised), (1, 0));
        let graph = Graph::read(&half.bytes).expect("still a model");
        let types: Vec<(&str, u64)> =
            graph.weights.iter().map(|(name, tensor)| (*name, tensor::elem_type(tensor).expect("own tensor"))).collect();
        assert_eq!(types, [("s", 1), ("t", 10), ("t/single", 1)]);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_name() {
        let refused = |node: Vec<u8>| to_half(&model(&[node], &[], &["y"]), 13, HalfEnds::default()).expect_err("not known");
        assert!(refused(node("Blur", &["x"], &["y"])).contains("the operator 'Blur'"));
        let mut foreign = node("Conv", &["x"], &["y"]);
        write_bytes(7, b"com.example", &mut foreign);
        assert!(refused(foreign).contains("operators of 'com.example'"));
        let mut nested = node("If", &["x"], &["y"]);
        write_bytes(5, &message(&[(1, b"then_branch"), (6, b"")]), &mut nested);
        assert!(refused(nested).contains("'If', which contains a nested graph"));
        assert!(to_half(&[0x08, 0xff], 13, HalfEnds::default()).is_err(), "cut short");
    }
}
