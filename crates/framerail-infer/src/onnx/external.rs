//! Weights in files beside the model, as PyTorch's exporter writes them since 2.9. They are read into the model's bytes: all later code
//! sees one file, and ONNX Runtime opens none.
//!
//! Source: `onnx.proto` for `TensorProto.external_data`; ONNX's document on external data for `location` (relative to the model's folder),
//! `offset` and `length`.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use super::{
    MAX_FILE_BYTES, number, read_entry, text,
    wire::{WireError, fields, write_bytes},
};

const TENSOR_RAW_DATA: u32 = 9;
const TENSOR_EXTERNAL_DATA: u32 = 13;

/// A model with its weights inside, and the files that they came from in the order of their names in the model.
pub(super) struct Inlined {
    pub(super) bytes: Vec<u8>,
    pub(super) files: Vec<PathBuf>,
}

/// Reads the external weights of the model at `path`; `None` if it has none, or if its bytes cannot be parsed.
///
/// # Errors
/// What is wrong with the files that it names.
pub(super) fn inlined(model: &[u8], path: &Path) -> Result<Option<Inlined>, String> {
    if !has_external(model).unwrap_or(false) {
        return Ok(None);
    }
    let mut sources = Sources::new(path)?;
    match copy_model(model, &mut sources) {
        Ok(bytes) => Ok(Some(Inlined { bytes, files: sources.files.into_iter().map(|source| source.path).collect() })),
        Err(Failure::Wire) => Ok(None),
        Err(Failure::File(reason)) => Err(reason),
    }
}

/// Whether a weight of the main graph lies in another file.
fn has_external(model: &[u8]) -> Result<bool, WireError> {
    for field in fields(model) {
        let field = field?;
        if field.number != number::MODEL_GRAPH {
            continue;
        }
        for part in fields(field.bytes()?) {
            let part = part?;
            if part.number == number::GRAPH_INITIALIZER && is_external(part.bytes()?)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_external(tensor: &[u8]) -> Result<bool, WireError> {
    for field in fields(tensor) {
        let field = field?;
        if field.number == number::TENSOR_DATA_LOCATION && field.varint()? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

enum Failure {
    /// The model is damaged; the next parser reports it.
    Wire,
    File(String),
}

impl From<WireError> for Failure {
    fn from(_: WireError) -> Self {
        Failure::Wire
    }
}

fn copy_model(model: &[u8], sources: &mut Sources) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(model.len());
    for field in fields(model) {
        let field = field?;
        if field.number == number::MODEL_GRAPH {
            let graph = copy_graph(field.bytes()?, sources)?;
            write_bytes(number::MODEL_GRAPH, &graph, &mut out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

fn copy_graph(graph: &[u8], sources: &mut Sources) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(graph.len());
    for field in fields(graph) {
        let field = field?;
        if field.number == number::GRAPH_INITIALIZER && is_external(field.bytes()?)? {
            let tensor = copy_tensor(field.bytes()?, sources)?;
            write_bytes(number::GRAPH_INITIALIZER, &tensor, &mut out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

fn copy_tensor(tensor: &[u8], sources: &mut Sources) -> Result<Vec<u8>, Failure> {
    let (mut out, mut place) = (Vec::new(), Place::default());
    for field in fields(tensor) {
        let field = field?;
        match field.number {
            TENSOR_EXTERNAL_DATA => place.read_entry(field.bytes()?)?,
            number::TENSOR_DATA_LOCATION | TENSOR_RAW_DATA => {}
            number::TENSOR_NAME => {
                place.name = text(field.bytes()?);
                out.extend_from_slice(field.raw);
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    write_bytes(TENSOR_RAW_DATA, &sources.read(&place)?, &mut out);
    Ok(out)
}

/// Location of a tensor's bytes.
#[derive(Default)]
struct Place {
    /// The tensor's.
    name: String,
    location: String,
    offset: Option<String>,
    length: Option<String>,
}

impl Place {
    fn read_entry(&mut self, entry: &[u8]) -> Result<(), WireError> {
        let (key, value) = read_entry(entry)?;
        match key.as_str() {
            "location" => self.location = value,
            "offset" => self.offset = Some(value),
            "length" => self.length = Some(value),
            // A checksum, which exporters do not write.
            _ => {}
        }
        Ok(())
    }
}

struct Source {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// The files with weights. All are in the model's folder, also after resolving symbolic links.
struct Sources {
    folder: PathBuf,
    /// The allowed real location of a file: in the folder, or beside the target of a linked model, as in a hub's cache.
    allowed: Vec<PathBuf>,
    files: Vec<Source>,
    by_location: HashMap<String, usize>,
    total: u64,
}

impl Sources {
    fn new(model: &Path) -> Result<Self, String> {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let real = |path: &Path| path.canonicalize().map_err(|error| format!("its folder cannot be read: {error}"));
        let mut allowed = vec![real(&folder)?];
        allowed.extend(real(model)?.parent().map(Path::to_owned));
        Ok(Self { folder, allowed, files: Vec::new(), by_location: HashMap::new(), total: 0 })
    }

    fn read(&mut self, place: &Place) -> Result<Vec<u8>, Failure> {
        self.read_bytes(place).map_err(Failure::File)
    }

    fn read_bytes(&mut self, place: &Place) -> Result<Vec<u8>, String> {
        let Place { name, location, .. } = place;
        let index = match self.by_location.get(location) {
            Some(index) => *index,
            None => self.open(location)?,
        };
        let source = self.files.get_mut(index).ok_or("its weights are missing")?;
        let number = |text: &Option<String>, default: u64| match text {
            None => Ok(default),
            Some(text) => {
                text.parse::<u64>().map_err(|_| format!("weight '{name}' lies at '{text}' of '{location}', which is not a number"))
            }
        };
        let offset = number(&place.offset, 0)?;
        let length = number(&place.length, source.bytes.saturating_sub(offset))?;
        if offset.checked_add(length).is_none_or(|end| end > source.bytes) {
            return Err(format!(
                "weight '{name}' extends beyond the end of '{location}' ({} bytes): the file is truncated or of another export",
                source.bytes
            ));
        }
        self.total = self.total.saturating_add(length);
        if self.total > MAX_FILE_BYTES {
            return Err("has more than 2 GiB of weights, the maximum; export a smaller model, or one in float16".into());
        }
        let unread = |error: std::io::Error| format!("'{location}' cannot be read: {error}");
        let mut bytes = Vec::with_capacity(length as usize);
        source.file.seek(SeekFrom::Start(offset)).map_err(unread)?;
        (&source.file).take(length).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 != length {
            return Err(format!("'{location}' became shorter while it was read"));
        }
        Ok(bytes)
    }

    fn open(&mut self, location: &str) -> Result<usize, String> {
        let relative = Path::new(location);
        let is_inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let outside =
            || format!("names '{location}' for its weights, which is outside of its folder; export it again, with the weights beside it");
        if location.is_empty() || location.contains('\0') || !is_inside {
            return Err(outside());
        }
        let path = self.folder.join(relative);
        let real = path.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("keeps its weights in '{location}', which is missing; put it beside the model"),
            _ => format!("'{location}' cannot be read: {error}"),
        })?;
        if !self.allowed.iter().any(|folder| real.starts_with(folder)) {
            return Err(outside());
        }
        let unread = |error: std::io::Error| format!("'{location}' cannot be read: {error}");
        let metadata = std::fs::metadata(&real).map_err(unread)?;
        if !metadata.is_file() {
            return Err(format!("'{location}' is not a file"));
        }
        let file = File::open(&real).map_err(unread)?;
        self.files.push(Source { path, file, bytes: metadata.len() });
        self.by_location.insert(location.to_owned(), self.files.len() - 1);
        Ok(self.files.len() - 1)
    }
}
