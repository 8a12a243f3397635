//! Reference pictures of persons and their embeddings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{AttributeValue, Detection, Frame, FramePool, RunFiles};
use framerail_infer::{Description, DetectorOptions, Prediction, Predictor, Task, View};
use framerail_media::{InputOptions, MediaItem, MediaReader, SideStreams};
use framerail_pipeline::{ErrorKind, StageError};

use crate::{
    convert::{input_error, model_error},
    inputs::is_image,
    stages::{face_square::face_square, link::note_reads},
};

/// A second face in a picture makes it ambiguous from this share of the largest one's area.
const AMBIGUOUS_AREA: f32 = 0.2;

/// A person, known by one or more pictures.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) name: Arc<str>,
    /// Of length 1.
    vectors: Vec<Vec<f32>>,
}

impl Person {
    /// The best cosine similarity to one of the pictures, -1 to 1.
    pub(super) fn similarity(&self, vector: &[f32]) -> f32 {
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        let dot = |known: &Vec<f32>| known.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
        let best = self.vectors.iter().map(dot).fold(f32::NEG_INFINITY, f32::max);
        // A vector of zeros resembles nothing.
        if norm > 0.0 && best.is_finite() { best.max(-norm) / norm } else { -1.0 }
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, vector: Vec<f32>) -> Self {
        Self { name: name.into(), vectors: vec![unit(vector)] }
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= norm);
    vector
}

/// The name of the person in a picture, or in a folder of pictures. Commas separate names elsewhere.
pub(crate) fn person_name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or(path.as_os_str());
    name.to_string_lossy().replace(',', " ").trim().to_owned()
}

/// The models that turn pictures into embeddings.
pub(super) struct Recogniser {
    detector: Predictor,
    embedding: Predictor,
}

impl Recogniser {
    pub(super) fn load(detector: &str, embedding: &str) -> Result<Self, StageError> {
        let load = |model: &str| Predictor::load(&DetectorOptions::new(model)).map_err(model_error);
        let (detector, embedding) = (load(detector)?, load(embedding)?);
        for (option, model, task) in [("detector", &detector, Task::Detection), ("model", &embedding, Task::Embedding)] {
            if model.task() != task {
                let message = format!("{option}={}: it is a model for {}; this needs one for {task}", model.card().name, model.task());
                return Err(StageError::new(ErrorKind::Usage, message));
            }
        }
        Ok(Self { detector, embedding })
    }

    /// The name under which the model's results are attached to detections.
    pub(super) fn model_name(&self) -> Arc<str> {
        self.embedding.card().name.as_str().into()
    }

    /// The persons of pictures and of folders of pictures.
    pub(super) fn people(&mut self, paths: &[PathBuf], files: &RunFiles) -> Result<Vec<Person>, StageError> {
        let mut people: Vec<Person> = Vec::new();
        for path in paths {
            let name: Arc<str> = person_name(path).into();
            let mut vectors = Vec::new();
            for image in images(path)? {
                note_reads(files, [image.as_path()])?;
                vectors.push(self.vector(&image)?);
            }
            match people.iter_mut().find(|person| person.name == name) {
                Some(person) => person.vectors.append(&mut vectors),
                None => people.push(Person { name, vectors }),
            }
        }
        Ok(people)
    }

    fn vector(&mut self, path: &Path) -> Result<Vec<f32>, StageError> {
        let wrong = |words: &str| StageError::new(ErrorKind::Input, format!("{}: {words}", path.display()));
        let frame = first_frame(path)?;
        let found = match self.detector.predict(&[View::whole(&frame)]).map_err(model_error)?.pop() {
            Some(Prediction::Detections(found)) => found,
            _ => Vec::new(),
        };
        let face = the_face(found).map_err(|words| wrong(&words))?;
        let view = View::part(&frame, face_square(&face));
        match self.embedding.predict(&[view]).map_err(model_error)?.pop() {
            Some(Prediction::Description(Some(Description { value: AttributeValue::Embedding(vector), .. }))) => {
                let vector = unit(vector.to_vec());
                vector.iter().all(|value| value.is_finite()).then_some(vector).ok_or_else(|| wrong("its embedding is zero"))
            }
            _ => Err(wrong("the model returns no embedding for its face")),
        }
    }
}

/// The one face of a picture.
fn the_face(mut found: Vec<Detection>) -> Result<Detection, String> {
    found.retain(|face| face.bbox.is_finite());
    found.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
    let large = found.iter().filter(|face| face.bbox.area() >= found.first().map_or(0.0, |first| first.bbox.area()) * AMBIGUOUS_AREA);
    match large.count() {
        0 => Err("no face was found in it; use an image that shows the whole head, upright".into()),
        1 => Ok(found.swap_remove(0)),
        count => Err(format!("{count} faces were found in it; crop it to the face of one person")),
    }
}

/// The pictures of a folder, or the file itself.
fn images(path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let wrong = |words: &dyn std::fmt::Display| StageError::new(ErrorKind::Input, format!("{}: {words}", path.display()));
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| wrong(&error))?;
    let mut images: Vec<PathBuf> = listed.into_iter().map(|entry| entry.path()).filter(|path| is_image(path)).collect();
    images.sort();
    if images.is_empty() { Err(wrong(&"there are no images in this folder")) } else { Ok(images) }
}

fn first_frame(path: &Path) -> Result<Frame, StageError> {
    let mut options = InputOptions::new(path.to_string_lossy());
    (options.threads, options.side_streams) = (1, SideStreams::None);
    let mut reader = MediaReader::open(&options, &FramePool::new(0)).map_err(input_error)?;
    while let Some(item) = reader.next().map_err(input_error)? {
        if let MediaItem::Frame(frame) = item {
            return Ok(frame);
        }
    }
    Err(StageError::new(ErrorKind::Input, format!("{}: no image can be decoded", path.display())))
}
