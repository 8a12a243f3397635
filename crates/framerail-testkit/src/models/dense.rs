//! Models with a value for each cell: depth and optical flow.

use super::{BYTES_TO_ONE, Field, SampleModel, head, integers_attribute, model, pool_node, scalar, tensor, value_info};

/// Side of the flow model's input.
const FLOW_SIDE: i64 = 64;

/// Takes brightness for nearness: the mean luma of each 4x4 cell of a 64x64 input, 0 to 1.
pub fn brightness_depth() -> SampleModel {
    let rest = format!(
        "\n[input]\nwidth = 64\nheight = 64\nchannel_order = \"gray\"\nsampling = \"area\"\n{BYTES_TO_ONE}\n[output.depth]\n\
         output = \"near\"\nvalues = \"inverse\"\n"
    );
    let graph = Field::new()
        .bytes(1, pool_node("near"))
        .bytes(2, "depth")
        .bytes(11, value_info("image", &[-1, 1, 64, 64]))
        .bytes(12, value_info("near", &[-1, 1, 16, 16]));
    SampleModel { name: "depth", onnx: model(graph), card: head("depth", "brightness as nearness", &rest) }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Field {
    inputs.iter().fold(Field::new(), |node, input| node.bytes(1, *input)).bytes(2, output).bytes(4, operator)
}

/// Optical flow by least squares over a neighbourhood (B. Lucas, T. Kanade, 1981): exact for small motions of smooth images.
pub fn lucas_kanade_flow() -> SampleModel {
    let rest = format!(
        "\n[input]\nname = \"image\"\nprevious = \"before\"\nwidth = 64\nheight = 64\nchannel_order = \"gray\"\nsampling = \"area\"\n\
         {BYTES_TO_ONE}\n[output.flow]\noutput = \"flow\"\n"
    );
    let window = |input: &str, output: &str| {
        let (kernel, pads) = (integers_attribute("kernel_shape", &[9, 9]), integers_attribute("pads", &[4, 4, 4, 4]));
        node("AveragePool", &[input], output).bytes(5, kernel).bytes(5, pads)
    };
    let slope = |kernel: &str, output: &str, shape: &[u64; 2], pads: &[u64; 4]| {
        let shape = integers_attribute("kernel_shape", shape);
        node("Conv", &["middle", kernel], output).bytes(5, shape).bytes(5, integers_attribute("pads", pads))
    };
    let mut nodes = vec![
        // Slopes of the mean of both images, so that they fit the motion's middle.
        node("Add", &["image", "before"], "sum"),
        node("Mul", &["sum", "half"], "middle"),
        slope("across", "x", &[1, 3], &[0, 1, 0, 1]),
        slope("down", "y", &[3, 1], &[1, 0, 1, 0]),
        node("Sub", &["before", "image"], "t"),
    ];
    for (product, [left, right]) in [("xx", ["x", "x"]), ("xy", ["x", "y"]), ("yy", ["y", "y"]), ("xt", ["x", "t"]), ("yt", ["y", "t"])] {
        let raw = format!("{product}_raw");
        nodes.push(node("Mul", &[left, right], &raw));
        nodes.push(window(&raw, product));
    }
    let mut product = |left: &str, right: &str| {
        let name = format!("{left}_{right}");
        nodes.push(node("Mul", &[left, right], &name));
        name
    };
    let terms = [("xx", "yy"), ("xy", "xy"), ("yy", "xt"), ("xy", "yt"), ("xx", "yt"), ("xy", "xt")].map(|(a, b)| product(a, b));
    let [whole, mixed, u_plus, u_minus, v_plus, v_minus] = terms.each_ref().map(String::as_str);
    nodes.extend([
        node("Sub", &[whole, mixed], "determinant"),
        // A small addition: where nothing has a slope, there is no motion.
        node("Add", &["determinant", "tiny"], "divisor"),
        node("Sub", &[u_plus, u_minus], "u_raw"),
        node("Sub", &[v_plus, v_minus], "v_raw"),
        node("Div", &["u_raw", "divisor"], "u"),
        node("Div", &["v_raw", "divisor"], "v"),
        node("Concat", &["u", "v"], "flow").bytes(5, Field::new().bytes(1, "axis").number(3, 1).number(20, 2)),
    ]);
    let graph = nodes.into_iter().fold(Field::new(), |graph, node| graph.bytes(1, node));
    let side = FLOW_SIDE;
    let graph = graph
        .bytes(2, "flow")
        .bytes(5, scalar("half", 0.5))
        .bytes(5, scalar("tiny", 1e-9))
        .bytes(5, tensor("across", &[1, 1, 1, 3], &[-0.5, 0.0, 0.5]))
        .bytes(5, tensor("down", &[1, 1, 3, 1], &[-0.5, 0.0, 0.5]))
        .bytes(11, value_info("before", &[1, 1, side, side]))
        .bytes(11, value_info("image", &[1, 1, side, side]))
        .bytes(12, value_info("flow", &[1, 2, side, side]));
    SampleModel { name: "flow", onnx: model(graph), card: head("flow", "motion by Lucas and Kanade", &rest) }
}
