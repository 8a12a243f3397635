//! Parts of quantisation: a model's file with open sizes, its inputs for frames, and the card of the result.
//!
//! Source: the NumPy documentation of the `.npy` format, version 1.0.

use std::{borrow::Cow, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    InferError, Precision, Predictor, View,
    element::{Element, Elements},
    shared::{Shared, frame_error},
};

/// An input of a model, filled.
#[derive(Clone, Debug, PartialEq)]
pub struct InputArray {
    /// Name of the input.
    pub name: String,
    /// A NumPy file (`.npy`).
    pub npy: Vec<u8>,
}

impl Predictor {
    /// The ONNX file prepared for sessions, with the sizes that the model card leaves open kept open.
    ///
    /// # Errors
    /// `ModelFile` when a nested message is damaged.
    pub fn open_model(&self) -> Result<Cow<'_, [u8]>, InferError> {
        self.model().open_bytes()
    }

    /// Values of every input of the model for a view.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed; `Option` as [`Predictor::input_size_for`]; `Run` for an input of an impossible size.
    pub fn input_arrays(&self, view: &View<'_>) -> Result<Vec<InputArray>, InferError> {
        let (frame, shared) = (view.frame(), self.shared());
        let (width, height) = view.size();
        let size = self.input_size_for(width, height)?;
        let preprocess = shared.preprocess(size);
        let shape = shared.model.shape(size, 1);
        let dims: Vec<i64> = shape.dims.iter().map(|dim| dim.map_or(1, |dim| dim as i64)).collect();
        let mut values = vec![0.0; preprocess.elements()];
        let mapping = shared.preprocessor(size)?.run(frame, &mut values).map_err(|error| frame_error(frame, error))?;
        let mut image = Elements::zeros(shared.model.input_element, values.len());
        image.write(0, &values);
        let mut more = Default::default();
        let geometry = [Shared::seen(view, mapping).geometry(size)];
        shared.model.more.refill(size, &geometry, &mut more).map_err(|reason| shared.run_error(reason))?;
        let more = more.inputs.into_iter().map(|input| InputArray { npy: npy(&input.elements, &input.dims), name: input.name });
        Ok(std::iter::once(InputArray { name: shape.name, npy: npy(&image, &dims) }).chain(more).collect())
    }

    /// The model card of this model's quantised form, which is `bytes` in `file`; all else is unchanged. `recheck` is the margin around the
    /// threshold within which this model decides, and the place of its file for the card; `note` describes how it was made.
    ///
    /// # Errors
    /// `Card` for one that cannot be written again; `ModelFile` when the weights' files cannot be read.
    pub fn quantised_card(&self, file: &Path, bytes: &[u8], recheck: Option<(f32, &Path)>, note: &str) -> Result<String, InferError> {
        let model = self.model();
        let wrong = |reason: String| InferError::Card { path: file.with_extension("toml"), line: None, reason };
        let mut card: toml::Table = toml::from_str(&model.text).map_err(|error| wrong(error.message().to_owned()))?;
        let mut set = |key: &str, value: String| card.insert(key.to_owned(), value.into());
        set("file", file.to_string_lossy().into_owned());
        set("sha256", Sha256::digest(bytes).into_iter().map(|byte| format!("{byte:02x}")).collect());
        set("precision", Precision::Int8.to_string());
        set("quantized_from", model.digest()?);
        if let Some((margin, float_file)) = recheck {
            set("float_file", float_file.to_string_lossy().into_owned());
            // The shortest digits of the float32 value.
            let margin = margin.to_string().parse::<f64>().unwrap_or_default();
            card.insert("recheck_margin".into(), margin.into());
        }
        let text = toml::to_string(&card).map_err(|error| wrong(error.to_string()))?;
        let notes: String = note.lines().map(|line| format!("# {line}\n")).collect();
        Ok(format!("{notes}\n{text}"))
    }
}

/// Elements as a NumPy file.
fn npy(elements: &Elements, dims: &[i64]) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    /// The data begins at a multiple of this.
    const ALIGNMENT: usize = 64;
    let kind = match elements.element() {
        Element::F32 => "<f4",
        Element::F16 => "<f2",
        Element::U8 => "|u1",
        Element::Bool => "|b1",
        Element::I32 => "<i4",
        Element::I64 => "<i8",
    };
    let shape: String = dims.iter().map(|dim| format!("{dim},")).collect();
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The magic is followed by two bytes of length; the header ends with a line feed.
    let end = (MAGIC.len() + 2 + header.len() + 1).next_multiple_of(ALIGNMENT);
    let padded = end - MAGIC.len() - 2;
    let mut file = MAGIC.to_vec();
    file.extend((padded as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    match elements {
        Elements::F32(elements) => file.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
        Elements::F16(elements) => file.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
        Elements::U8(elements) => file.extend(elements),
        Elements::Bool(elements) => file.extend(elements.iter().map(|element| u8::from(*element))),
        Elements::I32(elements) => file.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
        Elements::I64(elements) => file.extend(elements.iter().flat_map(|element| element.to_le_bytes())),
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_numpy_files() {
        let file = npy(&Elements::I64(vec![1, -2]), &[1, 2]);
        assert_eq!((file.len(), &file[..10]), (128 + 16, &b"\x93NUMPY\x01\x00\x76\x00"[..]));
        assert!(file[10..].starts_with(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,2,), }  "), "NumPy reads a trailing comma");
        assert_eq!((file[127], &file[128..136]), (b'\n', &1_i64.to_le_bytes()[..]));
        let scalar = npy(&Elements::F32(vec![0.5]), &[]);
        assert!(scalar[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (), }"));
    }
}
