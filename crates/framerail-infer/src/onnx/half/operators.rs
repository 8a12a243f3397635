//! Operators that the conversion to half precision knows.

/// Whether an operator stays in float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MustStay {
    No,
    /// Between casts.
    Yes,
    /// And so do the nodes that make its inputs, as far as they do nothing else.
    WithInputs,
}

/// The element type of an operator's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// All outputs as this input.
    Like(usize),
    /// The first output as this input, the others whole numbers.
    FirstLike(usize),
    /// Whole numbers or truth values.
    NoFloats,
    /// Given by an attribute.
    Attribute,
}

/// Operators whose outputs have the type of their first input.
const LIKE_FIRST: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "BitShift",
    "Ceil",
    "Celu",
    "CenterCropPad",
    "Clip",
    "Col2Im",
    "Compress",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "Det",
    "Div",
    "Einsum",
    "Elu",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "Max",
    "MaxRoiPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "RoiAlign",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
];

/// What an operator of the default set gives; `None` for one that is not known.
pub(super) fn gives(op: &str) -> Option<Gives> {
    match op {
        "And" | "ArgMax" | "ArgMin" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual"
        | "NonMaxSuppression" | "NonZero" | "Not" | "Or" | "Shape" | "Size" | "Xor" => Some(Gives::NoFloats),
        "Cast" | "Constant" | "ConstantOfShape" => Some(Gives::Attribute),
        "Dropout" | "MaxPool" | "TopK" | "Unique" => Some(Gives::FirstLike(0)),
        "Where" => Some(Gives::Like(1)),
        "OneHot" => Some(Gives::Like(2)),
        _ => LIKE_FIRST.contains(&op).then_some(Gives::Like(0)),
    }
}

/// Whether an operator stays in float32.
pub(super) fn must_stay(op: &str, opset: u64) -> MustStay {
    match op {
        // Positions and counts: float16 cannot represent odd numbers beyond 2048.
        "Range" => MustStay::WithInputs,
        // Sums of squares exceed float16's range even if the values do not.
        "LpNormalization" | "LpPool" | "GlobalLpPool" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSumExp" | "CumSum" => MustStay::Yes,
        // Selection among boxes: scores and corners that differ little must not become equal.
        "NonMaxSuppression" | "RoiAlign" | "MaxRoiPool" | "TopK" => MustStay::Yes,
        // No float16 kernels on CUDA, or none in older operator sets.
        "GridSample" | "Det" | "Unique" | "Col2Im" | "EyeLike" => MustStay::Yes,
        "Clip" | "Max" | "Min" if opset < 12 => MustStay::Yes,
        // Its type comes from an attribute; a cast behind it is folded.
        "ConstantOfShape" => MustStay::Yes,
        _ => MustStay::No,
    }
}

/// Whether an operator's outputs are about as large as its inputs: sums, means and moves.
pub(super) fn keeps_magnitude(op: &str) -> bool {
    matches!(
        op,
        "Add"
            | "Concat"
            | "Expand"
            | "GlobalAveragePool"
            | "AveragePool"
            | "Identity"
            | "Max"
            | "ReduceMax"
            | "ReduceMean"
            | "ReduceSum"
            | "Reshape"
            | "Squeeze"
            | "Sub"
            | "Sum"
            | "Transpose"
            | "Unsqueeze"
    )
}

/// Whether the operator's definition wants this input in float32 whatever the others are.
pub(super) fn slot_is_float32(op: &str, slot: usize) -> bool {
    slot > 0 && matches!(op, "Resize" | "Upsample")
}
