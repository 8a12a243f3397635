//! Values that stages attach to a frame in addition to its detections.

use std::{any::Any, fmt, sync::Arc};

/// Values of arbitrary types, at most one per type, that travel with a frame: zones, sensor readings, results of custom stages.
///
/// Stages that know a type can access its value; others pass it on. Clones share the values. An empty set does not allocate.
///
/// ```
/// use framerail_pipeline::Attachments;
///
/// struct Temperature(f32);
///
/// let mut attachments = Attachments::default();
/// attachments.insert(Temperature(21.5));
/// assert_eq!(attachments.get::<Temperature>().map(|found| found.0), Some(21.5));
/// assert!(attachments.get::<String>().is_none());
/// ```
#[derive(Clone, Default)]
pub struct Attachments(Vec<Arc<dyn Any + Send + Sync>>);

impl Attachments {
    /// The value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }

    /// Attaches a value, replacing any value of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.remove::<T>();
        self.0.push(Arc::new(value));
    }

    /// Removes the value of this type.
    pub fn remove<T: Any + Send + Sync>(&mut self) {
        self.0.retain(|value| !value.is::<T>());
    }

    /// Whether nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachments({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let mut attachments = Attachments::default();
        attachments.insert(1_u32);
        attachments.insert("one".to_owned());
        attachments.insert(2_u32);
        let copy = attachments.clone();
        attachments.remove::<u32>();
        assert_eq!((copy.get::<u32>(), copy.get::<String>().map(String::as_str)), (Some(&2), Some("one")));
        assert!(attachments.get::<u32>().is_none() && !attachments.is_empty());
    }
}
