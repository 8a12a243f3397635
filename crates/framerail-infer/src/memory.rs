//! Checks that a model fits in memory: untrusted files may declare any size.

use ort::{session::Session, value::TensorElementType};

use crate::{InferError, error::one_line};

/// Bytes available without swapping; `None` if the system does not report it.
fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Refuses a tensor that does not fit, before it is allocated.
///
/// # Errors
/// `Memory`.
pub(crate) fn check(model: &str, what: &str, dims: &[u64], element_bytes: u64) -> Result<(), InferError> {
    let bytes = dims.iter().try_fold(element_bytes, |product, dim| product.checked_mul(*dim));
    let available = available_bytes().unwrap_or(u64::MAX / 2);
    if bytes.is_some_and(|bytes| bytes <= available) {
        return Ok(());
    }
    let shape = dims.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
    let size = bytes.map_or("more than can be counted".into(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
    let reason = format!("{what} of {shape} takes {size}, and {:.1} GB are free", available as f64 / 1e9);
    Err(InferError::Memory { model: model.to_owned(), reason })
}

/// Refuses a session whose outputs do not fit, as far as their sizes are known before a run; open dimensions count as one, the batch
/// axis as `batch`.
///
/// # Errors
/// `Memory`.
pub(crate) fn check_outputs(model: &str, session: &Session, batch: usize) -> Result<(), InferError> {
    for output in session.outputs() {
        let Some(shape) = output.dtype().tensor_shape() else { continue };
        let open = |place: usize| if place == 0 { batch as u64 } else { 1 };
        let dims: Vec<u64> = shape.iter().enumerate().map(|(place, dim)| u64::try_from(*dim).unwrap_or_else(|_| open(place))).collect();
        let element_bytes = output.dtype().tensor_type().map_or(1, element_bytes);
        check(model, &format!("its output '{}'", output.name()), &dims, element_bytes)?;
    }
    Ok(())
}

fn element_bytes(element: TensorElementType) -> u64 {
    use TensorElementType as Type;
    match element {
        Type::Int8 | Type::Uint8 | Type::Bool => 1,
        Type::Int16 | Type::Uint16 | Type::Float16 | Type::Bfloat16 => 2,
        Type::Int64 | Type::Uint64 | Type::Float64 => 8,
        _ => 4,
    }
}

/// ONNX Runtime's error, as lack of memory if it is one.
pub(crate) fn failure(model: &str, error: &ort::Error) -> InferError {
    let reason = one_line(error);
    let is_memory = ["allocate memory", "bad_alloc", "bad allocation", "out of memory"].iter().any(|words| reason.contains(words));
    let model = model.to_owned();
    if is_memory { InferError::Memory { model, reason } } else { InferError::Run { model, reason } }
}
