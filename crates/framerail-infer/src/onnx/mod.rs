//! ONNX files: what they declare, and the preparation that makes ONNX Runtime fast.
//!
//! Older exports list weights as inputs, so that the runtime must not treat them as constants and cannot fold batch norms;
//! and they declare the input size they were exported with. [`OnnxFile::prepared`] writes a copy without both. Everything
//! else is kept byte for byte.
//!
//! Source: `onnx.proto` of the ONNX specification for field numbers; its IR document for the meaning of initialisers in inputs.

use std::{
    collections::HashSet,
    io::Read,
    path::{Path, PathBuf},
};

mod external;
mod half;
mod prepare;
pub(crate) mod wire;

use wire::{Field, WireError, fields};

pub use half::{HalfEnds, HalfModel, to_half};
pub use prepare::InputShape;

use crate::InferError;

/// Protocol buffers end at 2 GiB.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// Field numbers of `onnx.proto`.
pub(crate) mod number {
    pub(crate) const MODEL_IR_VERSION: u32 = 1;
    pub(crate) const MODEL_GRAPH: u32 = 7;
    pub(crate) const MODEL_OPSET: u32 = 8;
    pub(crate) const OPSET_DOMAIN: u32 = 1;
    pub(crate) const OPSET_VERSION: u32 = 2;
    pub(crate) const GRAPH_NODE: u32 = 1;
    pub(crate) const GRAPH_INITIALIZER: u32 = 5;
    pub(crate) const GRAPH_SPARSE: u32 = 15;
    pub(crate) const GRAPH_INPUT: u32 = 11;
    pub(crate) const GRAPH_OUTPUT: u32 = 12;
    pub(crate) const GRAPH_VALUE_INFO: u32 = 13;
    pub(crate) const NODE_ATTRIBUTE: u32 = 5;
    pub(crate) const ATTRIBUTE_TENSOR: u32 = 5;
    pub(crate) const ATTRIBUTE_GRAPH: u32 = 6;
    pub(crate) const ATTRIBUTE_TENSORS: u32 = 10;
    pub(crate) const ATTRIBUTE_GRAPHS: u32 = 11;
    pub(crate) const ATTRIBUTE_SPARSE: u32 = 22;
    pub(crate) const ATTRIBUTE_SPARSES: u32 = 23;
    pub(crate) const MODEL_FUNCTION: u32 = 25;
    pub(crate) const MODEL_METADATA: u32 = 14;
    pub(crate) const ENTRY_KEY: u32 = 1;
    pub(crate) const ENTRY_VALUE: u32 = 2;
    pub(crate) const FUNCTION_NODE: u32 = 7;
    pub(crate) const TENSOR_NAME: u32 = 8;
    pub(crate) const TENSOR_DATA_LOCATION: u32 = 14;
    pub(crate) const VALUE_NAME: u32 = 1;
    pub(crate) const VALUE_TYPE: u32 = 2;
    pub(crate) const TYPE_TENSOR: u32 = 1;
    pub(crate) const TENSOR_TYPE_ELEM: u32 = 1;
    pub(crate) const TENSOR_TYPE_SHAPE: u32 = 2;
    pub(crate) const SHAPE_DIM: u32 = 1;
    pub(crate) const DIM_VALUE: u32 = 1;
    pub(crate) const DIM_PARAM: u32 = 2;
}

/// `TensorProto.DataType.FLOAT`.
pub(crate) const ELEM_FLOAT: u64 = 1;

/// One dimension as a model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// This many.
    Fixed(i64),
    /// A name, or nothing.
    Symbolic(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(size) => size.fmt(f),
            Dim::Symbolic(name) if name.is_empty() => f.write_str("?"),
            Dim::Symbolic(name) => f.write_str(name),
        }
    }
}

/// An input or output as a model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// `TensorProto.DataType` of the elements; 0 when it is not a tensor.
    pub elem_type: u64,
    /// Its shape, when one is declared.
    pub dims: Option<Vec<Dim>>,
}

impl std::fmt::Display for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims = self.dims.as_ref().map(|dims| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(","));
        write!(f, "'{}' {}[{}]", self.name, elem_type_name(self.elem_type), dims.as_deref().unwrap_or("any shape"))
    }
}

/// The name of a `TensorProto.DataType`.
pub(crate) fn elem_type_name(elem_type: u64) -> &'static str {
    match elem_type {
        0 => "no tensor",
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        16 => "bfloat16",
        _ => "other type",
    }
}

/// A model file in memory, and what it declares.
pub struct OnnxFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Files with weights that were read into `bytes`.
    external: Vec<PathBuf>,
    inputs: Vec<Declared>,
    optional_inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    initializers: HashSet<String>,
    metadata: Vec<(String, String)>,
    opset: u64,
}

impl OnnxFile {
    /// Reads a model file whole, with the weights that it keeps in other files of its folder.
    ///
    /// # Errors
    /// `ModelFile` for one that cannot be read, is beyond 2 GiB, is not an ONNX model, or names files outside of its folder.
    pub fn read(path: &Path) -> Result<Self, InferError> {
        let wrong = |reason: String| InferError::ModelFile { path: path.to_owned(), reason };
        let metadata = std::fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if !metadata.is_file() {
            return Err(wrong("is not a file".into()));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(wrong("is larger than 2 GiB, the maximum of an ONNX file".into()));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        let file = std::fs::File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        match external::inlined(&bytes, path).map_err(wrong)? {
            Some(external::Inlined { bytes, files }) => Ok(Self { external: files, ..Self::parse(bytes, path)? }),
            None => Self::parse(bytes, path),
        }
    }

    /// The same for bytes in memory; `path` is for messages.
    ///
    /// # Errors
    /// `ModelFile` if they are not an ONNX model.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, InferError> {
        let wrong = |reason: &str| InferError::ModelFile { path: path.to_owned(), reason: reason.to_owned() };
        if bytes.is_empty() {
            return Err(wrong("is empty"));
        }
        let model = Declarations::read(&bytes).map_err(|problem| wrong(problem.describe(&bytes)))?;
        Ok(Self {
            path: path.to_owned(),
            external: Vec::new(),
            inputs: model.inputs,
            optional_inputs: model.optional_inputs,
            outputs: model.outputs,
            initializers: model.initializers,
            metadata: model.metadata,
            opset: model.opset,
            bytes,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files beside it that hold its weights.
    pub fn external_files(&self) -> &[PathBuf] {
        &self.external
    }

    /// The bytes of the file, with the weights of other files in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Inputs for the caller, without initialisers.
    pub fn inputs(&self) -> &[Declared] {
        &self.inputs
    }

    /// Inputs with a default that a caller may replace: those that are initialisers too.
    pub fn optional_inputs(&self) -> &[Declared] {
        &self.optional_inputs
    }

    /// Outputs.
    pub fn outputs(&self) -> &[Declared] {
        &self.outputs
    }

    /// The exporter's metadata for this key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Version of the default operator set; 0 when the model names none.
    pub fn opset(&self) -> u64 {
        self.opset
    }

    /// A copy for ONNX Runtime: initialisers are removed from the inputs unless they are in `shapes`, the inputs in `shapes` get these
    /// shapes, shapes declared for another size are removed, and outputs other than `outputs` are removed so that nodes that only they
    /// need are not computed.
    ///
    /// # Errors
    /// `ModelFile` when a nested message is damaged.
    pub fn prepared(&self, shapes: &[InputShape], outputs: &[&str]) -> Result<Vec<u8>, InferError> {
        let edit = prepare::Edit { drop_initializer_inputs: true, outputs: Some(outputs), initializers: &self.initializers, shapes };
        self.edited(&edit)
    }

    /// An unchanged copy, except that the input takes `shape`: for comparisons.
    ///
    /// # Errors
    /// `ModelFile` when a nested message is damaged.
    pub fn resized(&self, shape: &InputShape) -> Result<Vec<u8>, InferError> {
        let shapes = std::slice::from_ref(shape);
        let edit = prepare::Edit { drop_initializer_inputs: false, outputs: None, initializers: &self.initializers, shapes };
        self.edited(&edit)
    }

    fn edited(&self, edit: &prepare::Edit<'_>) -> Result<Vec<u8>, InferError> {
        edit.model(&self.bytes).map_err(|_| InferError::ModelFile { path: self.path.clone(), reason: "is damaged".into() })
    }
}

/// Why bytes are not a usable model.
enum Problem {
    Wire(WireError),
    Incomplete,
    ExternalData,
    Unusual,
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Problem::Wire(error)
    }
}

impl Problem {
    fn describe(&self, bytes: &[u8]) -> &'static str {
        let looks_like_onnx = bytes.first() == Some(&0x08);
        match self {
            Problem::ExternalData => {
                "keeps values of its operators in a second file; save it again as one file (onnx.save_model without external data)"
            }
            Problem::Wire(WireError::CutShort) if looks_like_onnx => "is truncated or damaged: a part extends beyond the end of the file",
            Problem::Unusual => "holds two graphs, which no exporter writes",
            _ if bytes.starts_with(b"version https://git-lfs") => "is a Git LFS pointer, not the model; fetch the file itself",
            _ => "is not an ONNX model",
        }
    }
}

#[derive(Default)]
struct Declarations {
    inputs: Vec<Declared>,
    optional_inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    initializers: HashSet<String>,
    metadata: Vec<(String, String)>,
    opset: u64,
}

impl Declarations {
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let mut found = Declarations::default();
        let (mut has_version, mut has_opset, mut graph) = (false, false, None);
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                number::MODEL_IR_VERSION => has_version = field.varint()? > 0,
                number::MODEL_OPSET => {
                    has_opset = true;
                    found.read_opset(field.bytes()?)?;
                }
                number::MODEL_FUNCTION => {
                    for node in fields(field.bytes()?) {
                        let node = node?;
                        if node.number == number::FUNCTION_NODE {
                            check_node(node.bytes()?, 0)?;
                        }
                    }
                }
                number::MODEL_METADATA => found.metadata.push(read_entry(field.bytes()?)?),
                number::MODEL_GRAPH if graph.is_some() => return Err(Problem::Unusual),
                number::MODEL_GRAPH => graph = Some(field.bytes()?),
                _ => {}
            }
        }
        let nodes = found.read_graph(graph.ok_or(Problem::Incomplete)?)?;
        let complete = has_version && has_opset && nodes > 0 && !found.outputs.is_empty();
        if complete { Ok(found) } else { Err(Problem::Incomplete) }
    }

    fn read_opset(&mut self, opset: &[u8]) -> Result<(), WireError> {
        let (mut is_default, mut version) = (true, 0);
        for field in fields(opset) {
            let field = field?;
            match field.number {
                number::OPSET_DOMAIN => is_default = matches!(field.bytes()?, b"" | b"ai.onnx"),
                number::OPSET_VERSION => version = field.varint()?,
                _ => {}
            }
        }
        if is_default {
            self.opset = version;
        }
        Ok(())
    }

    fn read_graph(&mut self, graph: &[u8]) -> Result<usize, Problem> {
        let mut nodes = 0;
        let mut inputs = Vec::new();
        for field in fields(graph) {
            let field = field?;
            match field.number {
                number::GRAPH_NODE => {
                    nodes += 1;
                    check_node(field.bytes()?, 0)?;
                }
                number::GRAPH_INITIALIZER => self.read_initializer(field.bytes()?)?,
                number::GRAPH_SPARSE => check_sparse(field.bytes()?)?,
                number::GRAPH_INPUT => inputs.push(read_declared(&field)?),
                number::GRAPH_OUTPUT => self.outputs.push(read_declared(&field)?),
                _ => {}
            }
        }
        (self.optional_inputs, self.inputs) = inputs.into_iter().partition(|input| self.initializers.contains(&input.name));
        Ok(nodes)
    }

    fn read_initializer(&mut self, tensor: &[u8]) -> Result<(), Problem> {
        for field in fields(tensor) {
            let field = field?;
            match field.number {
                number::TENSOR_NAME => drop(self.initializers.insert(text(field.bytes()?))),
                number::TENSOR_DATA_LOCATION if field.varint()? == 1 => return Err(Problem::ExternalData),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Deepest nesting of graphs in nodes.
const MAX_NESTING: usize = 32;

/// Checks a node's attributes, including nested graphs, for tensors with external data: ONNX Runtime would open the files.
fn check_node(node: &[u8], depth: usize) -> Result<(), Problem> {
    if depth > MAX_NESTING {
        return Err(Problem::Unusual);
    }
    for attribute in fields(node) {
        let attribute = attribute?;
        if attribute.number != number::NODE_ATTRIBUTE {
            continue;
        }
        for part in fields(attribute.bytes()?) {
            let part = part?;
            match part.number {
                number::ATTRIBUTE_TENSOR | number::ATTRIBUTE_TENSORS => check_tensor(part.bytes()?)?,
                number::ATTRIBUTE_GRAPH | number::ATTRIBUTE_GRAPHS => check_graph(part.bytes()?, depth + 1)?,
                number::ATTRIBUTE_SPARSE | number::ATTRIBUTE_SPARSES => check_sparse(part.bytes()?)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_graph(graph: &[u8], depth: usize) -> Result<(), Problem> {
    for field in fields(graph) {
        let field = field?;
        match field.number {
            number::GRAPH_NODE => check_node(field.bytes()?, depth)?,
            number::GRAPH_INITIALIZER => check_tensor(field.bytes()?)?,
            number::GRAPH_SPARSE => check_sparse(field.bytes()?)?,
            _ => {}
        }
    }
    Ok(())
}

/// Values and indices are tensors.
fn check_sparse(sparse: &[u8]) -> Result<(), Problem> {
    for field in fields(sparse) {
        let field = field?;
        if matches!(field.number, 1 | 2) {
            check_tensor(field.bytes()?)?;
        }
    }
    Ok(())
}

fn check_tensor(tensor: &[u8]) -> Result<(), Problem> {
    for field in fields(tensor) {
        let field = field?;
        if field.number == number::TENSOR_DATA_LOCATION && field.varint()? == 1 {
            return Err(Problem::ExternalData);
        }
    }
    Ok(())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key and its value.
pub(crate) fn read_entry(entry: &[u8]) -> Result<(String, String), WireError> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in fields(entry) {
        let field = field?;
        match field.number {
            number::ENTRY_KEY => key = text(field.bytes()?),
            number::ENTRY_VALUE => value = text(field.bytes()?),
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_declared(value_info: &Field<'_>) -> Result<Declared, WireError> {
    let mut declared = Declared { name: String::new(), elem_type: 0, dims: None };
    for field in fields(value_info.bytes()?) {
        let field = field?;
        match field.number {
            number::VALUE_NAME => declared.name = text(field.bytes()?),
            number::VALUE_TYPE => read_type(field.bytes()?, &mut declared)?,
            _ => {}
        }
    }
    Ok(declared)
}

fn read_type(type_proto: &[u8], declared: &mut Declared) -> Result<(), WireError> {
    for field in fields(type_proto) {
        let field = field?;
        if field.number != number::TYPE_TENSOR {
            continue;
        }
        for part in fields(field.bytes()?) {
            let part = part?;
            match part.number {
                number::TENSOR_TYPE_ELEM => declared.elem_type = part.varint()?,
                number::TENSOR_TYPE_SHAPE => declared.dims = Some(read_shape(part.bytes()?)?),
                _ => {}
            }
        }
    }
    Ok(())
}

fn read_shape(shape: &[u8]) -> Result<Vec<Dim>, WireError> {
    let mut dims = Vec::new();
    for field in fields(shape) {
        let field = field?;
        if field.number != number::SHAPE_DIM {
            continue;
        }
        let mut dim = Dim::Symbolic(String::new());
        for part in fields(field.bytes()?) {
            let part = part?;
            match part.number {
                number::DIM_VALUE => dim = Dim::Fixed(part.varint()? as i64),
                number::DIM_PARAM => dim = Dim::Symbolic(text(part.bytes()?)),
                _ => {}
            }
        }
        dims.push(dim);
    }
    Ok(dims)
}
