//! COCO annotations: one JSON object with images, annotations and categories.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::StreamInfo;
use framerail_media::{Committed, Ending};
use framerail_pipeline::{DetectionFormat, StageError};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    format::{RecordWriter, Written},
    lines::internal,
    record::{DetectionRecord, FrameRecord},
};
use crate::outputs::{OutputFile, indexed_path, is_standard_output, write_error};

/// Properties known before the first frame.
#[derive(Clone, Debug, Default)]
pub(super) struct CocoFacts {
    /// Class names, in order of their numbers.
    pub(super) labels: Vec<String>,
    /// Names of the landmarks of a detection, in order.
    pub(super) landmarks: Vec<String>,
    /// Pairs of landmarks joined by a line, by their numbers from 1.
    pub(super) skeleton: Vec<[usize; 2]>,
    /// File names of the images, as those of the stage `frames`.
    pub(super) image_name: PathBuf,
}

impl CocoFacts {
    /// Takes classes, landmarks and skeleton from the format of detections.
    pub(super) fn of_detections(&mut self, detections: &DetectionFormat) {
        let count = detections.landmarks;
        let numbered = || (1..=count).map(|number| number.to_string()).collect();
        let names = Some(&detections.landmark_names).filter(|names| names.len() == count);
        let bones = detections.skeletons.iter().find(|skeleton| skeleton.points == count).map(|skeleton| &skeleton.bones);
        self.labels.clone_from(&detections.labels);
        self.landmarks = names.cloned().unwrap_or_else(numbered);
        self.skeleton = bones.into_iter().flatten().map(|bone| bone.map(|place| place + 1)).collect();
    }
}

/// An annotation.
#[derive(Serialize)]
struct Annotation<'a> {
    id: u64,
    image_id: u64,
    category_id: u64,
    /// `[left, top, width, height]` in frame pixels.
    bbox: [f64; 4],
    /// The corners of a rotated box.
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<[Vec<f64>; 1]>,
    area: f64,
    iscrowd: u8,
    score: f64,
    /// x, y and 2 (visible) for each landmark.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keypoints: Vec<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    num_keypoints: usize,
    track_id: Option<u64>,
    origin: &'a str,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An unfinished annotation file. Images are written as they arrive, annotations to an unnamed file until the end.
pub(super) struct CocoFile {
    path: PathBuf,
    file: OutputFile,
    facts: CocoFacts,
    stream: Option<Arc<StreamInfo>>,
    annotations: BufWriter<File>,
    categories: Categories,
    images: u64,
    last_annotation: u64,
}

impl CocoFile {
    pub(super) fn new(path: &Path, mut file: OutputFile, facts: CocoFacts) -> Result<Self, StageError> {
        let annotations = match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile()),
            None if is_standard_output(path) => tempfile::tempfile(),
            None => tempfile::tempfile_in(".").or_else(|_| tempfile::tempfile()),
        };
        let annotations = annotations.map_err(|error| write_error(path, &error))?;
        let info = json!({ "description": "detections in a video", "version": env!("CARGO_PKG_VERSION") });
        file.write(format!("{{\"info\":{info},\"licenses\":[],\n\"images\":[").as_bytes())?;
        Ok(Self {
            path: path.to_owned(),
            file,
            categories: Categories::new(&facts.labels),
            facts,
            stream: None,
            annotations: BufWriter::new(annotations),
            images: 0,
            last_annotation: 0,
        })
    }

    fn image(&mut self, record: &FrameRecord<'_>) -> Result<u64, StageError> {
        let name = match &self.stream {
            Some(info) => indexed_path(&self.facts.image_name, info, record.frame).display().to_string(),
            None => format!("{:06}.png", record.frame),
        };
        // Some tools treat 0 as "none".
        let id = record.frame.saturating_add(1);
        let (width, height) = record.size;
        let image = json!({
            "id": id, "file_name": name, "width": width, "height": height, "frame": record.frame, "seconds": record.seconds,
            "analysed": record.analysed,
        });
        self.file.write(format!("{}{image}", separator(self.images)).as_bytes())?;
        self.images += 1;
        Ok(id)
    }

    fn annotation(&mut self, image_id: u64, found: &DetectionRecord<'_>) -> Result<(), StageError> {
        let bbox = found.bbox_ltwh();
        let [_, _, width, height] = bbox;
        let area = found.oriented.map_or(width * height, |[_, _, width, height, _]| width * height);
        let annotation = Annotation {
            id: self.last_annotation + 1,
            image_id,
            category_id: self.categories.id_of(found.label_id, found.label),
            bbox,
            segmentation: found.corners.map(|corners| [corners.concat()]),
            area: (area * 1e4).round() / 1e4,
            iscrowd: 0,
            score: found.score,
            keypoints: found.landmarks.iter().flat_map(|[x, y]| [*x, *y, 2.0]).collect(),
            num_keypoints: found.landmarks.len(),
            track_id: found.track_id,
            origin: found.origin(),
        };
        let text = serde_json::to_string(&annotation).map_err(internal)?;
        write!(self.annotations, "{}{text}", separator(self.last_annotation)).map_err(|error| write_error(&self.path, &error))?;
        self.last_annotation += 1;
        Ok(())
    }

    fn categories(&self) -> Value {
        let keypoints = &self.facts.landmarks;
        let category = |(id, name): (u64, &str)| {
            let mut category = json!({ "id": id, "name": name, "supercategory": "" });
            if let Some(category) = category.as_object_mut().filter(|_| !keypoints.is_empty()) {
                category.insert("keypoints".into(), json!(keypoints));
                category.insert("skeleton".into(), json!(self.facts.skeleton));
            }
            category
        };
        self.categories.all().map(category).collect()
    }
}

fn separator(count: u64) -> &'static str {
    if count == 0 { "\n" } else { ",\n" }
}

impl RecordWriter for CocoFile {
    fn stream(&mut self, info: &StreamInfo) {
        self.stream = Some(Arc::new(info.clone()));
    }

    fn frame(&mut self, record: &FrameRecord<'_>) -> Result<Written, StageError> {
        let image_id = self.image(record)?;
        record.detections.iter().try_for_each(|found| self.annotation(image_id, found))?;
        Ok(Written { detections: record.detections.len() as u64, ..Written::default() })
    }

    fn complete(self: Box<Self>, ending: Ending) -> Result<(Committed, Written), StageError> {
        Ok((self.close()?.complete(ending)?, Written::default()))
    }

    fn keep_unfinished(self: Box<Self>) -> Option<PathBuf> {
        self.close().ok()?.keep_unfinished()
    }
}

impl CocoFile {
    /// Writes the part after the images.
    fn close(self) -> Result<OutputFile, StageError> {
        let categories = self.categories();
        let Self { path, mut file, annotations, .. } = self;
        file.write(b"\n],\n\"annotations\":[")?;
        let mut annotations = annotations.into_inner().map_err(|error| write_error(&path, error.error()))?;
        annotations.seek(SeekFrom::Start(0)).map_err(|error| write_error(&path, &error))?;
        copy(&mut annotations, &mut file, &path)?;
        file.write(format!("\n],\n\"categories\":{categories}}}\n").as_bytes())?;
        Ok(file)
    }
}

fn copy(from: &mut File, to: &mut OutputFile, path: &Path) -> Result<(), StageError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(write_error(path, &error)),
        };
        to.write(buffer.get(..count).unwrap_or_default())?;
    }
}

/// Classes by their numbers: 1 for the model's class 0 and so on. A second model's classes are shifted if they collide.
struct Categories(Vec<(u64, u32, String)>);

impl Categories {
    fn new(labels: &[String]) -> Self {
        let numbered = (0..).zip(labels).map(|(number, name)| (u64::from(number) + 1, number, name.clone()));
        Self(numbered.collect())
    }

    fn id_of(&mut self, label_id: u32, name: &str) -> u64 {
        if let Some((id, ..)) = self.0.iter().find(|(_, number, known)| *number == label_id && known == name) {
            return *id;
        }
        let own = u64::from(label_id) + 1;
        let is_taken = self.0.iter().any(|(id, ..)| *id == own);
        let id = if is_taken { self.0.iter().map(|(id, ..)| *id).max().unwrap_or(0) + 1 } else { own };
        self.0.push((id, label_id, name.to_owned()));
        id
    }

    fn all(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().map(|(id, _, name)| (*id, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_keep_the_models_order() {
        let mut categories = Categories::new(&["face".into(), "plate".into()]);
        assert_eq!((categories.id_of(1, "plate"), categories.id_of(0, "face"), categories.id_of(9, "other")), (2, 1, 10));
        assert_eq!((categories.id_of(0, "person"), categories.id_of(0, "person"), categories.id_of(0, "face")), (11, 11, 1));
    }
}
