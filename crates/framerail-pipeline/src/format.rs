//! Formats that stages negotiate before the run starts.

use std::fmt;

use framerail_core::{Device, PixelAspect, PixelFormat, Rational, Skeleton};

/// Format of the detections attached to frames on an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectionFormat {
    /// The model that creates them.
    pub model: String,
    /// Class names, in order of class number.
    pub labels: Vec<String>,
    /// Landmarks per detection.
    pub landmarks: usize,
    /// Their names, where a model card has them.
    pub landmark_names: Vec<String>,
    /// Bones between landmarks of detections, or of their attributes.
    pub skeletons: Vec<Skeleton>,
    /// Maximum number of consecutive frames on which no model runs: 0 for every frame, 2 for `infer every=3`.
    pub max_unanalysed_frames: u32,
    /// Whether a stage has assigned persistent identities (`track_id`).
    pub has_identities: bool,
    /// Whether a model has attached embeddings to detections.
    pub has_embeddings: bool,
}

/// The parts of each frame on which the next model runs instead of the whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartFormat {
    /// Parts around detections; results of the model become attributes of the detection.
    Detections {
        /// The model runs on tracked detections in every Nth frame; its results are kept in between.
        every: u32,
    },
    /// Fixed regions, by name.
    Regions {
        /// Names of the regions.
        names: Vec<String>,
    },
    /// Tiles of one size that cover the frame, to find small objects.
    Tiles,
}

impl fmt::Display for PartFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PartFormat::Detections { .. } => "parts around detections",
            PartFormat::Regions { .. } => "regions",
            PartFormat::Tiles => "tiles",
        })
    }
}

/// What flows on an edge: the format of the frames, as far as known before the first one, and their attachments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeFormat {
    /// Number of streams, when known before the start.
    pub streams: Option<usize>,
    /// Width and height in pixels; `None` when streams differ.
    pub size: Option<(u32, u32)>,
    /// Pixel aspect ratio; square when streams differ.
    pub pixel_aspect: PixelAspect,
    /// Pixel format; `None` when streams differ.
    pub pixel_format: Option<PixelFormat>,
    /// Average frame rate; `None` when unknown or streams differ.
    pub frame_rate: Option<Rational>,
    /// Whether frames arrive in real time, from a live source or a paced file: batches then have a deadline.
    pub is_live: bool,
    /// Device that holds the frames.
    pub device: Device,
    /// Further devices that share the work: each frame is on one of them or on `device`.
    pub other_devices: Vec<Device>,
    /// Whether a stage may have changed the pixels since decoding. Maintained by the planner.
    pub is_changed: bool,
    /// Detections attached to each frame.
    pub detections: Option<DetectionFormat>,
    /// Names of the models that returned results for each frame as a whole.
    pub frame_models: Vec<String>,
    /// Whether one of them returned depth or optical flow.
    pub has_maps: bool,
    /// Parts on which the next stage runs; only a stage that supports them ([`crate::StagePlan::takes_parts`]) may follow.
    pub parts: Option<PartFormat>,
}

impl EdgeFormat {
    /// Whether every frame is on this device.
    pub fn is_all_on(&self, device: Device) -> bool {
        self.device == device && self.other_devices.is_empty()
    }
}

impl fmt::Display for EdgeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Some((width, height)) => write!(f, "{width}x{height}")?,
            None => f.write_str("frames of any size")?,
        }
        if let Some(format) = self.pixel_format {
            write!(f, " {format}")?;
        }
        if let Some(rate) = self.frame_rate {
            write!(f, " {} fps", (rate.as_f64() * 100.0).round() / 100.0)?;
        }
        if let Some(streams) = self.streams.filter(|count| *count > 1) {
            write!(f, ", {streams} streams")?;
        }
        if self.is_live {
            f.write_str(", live")?;
        }
        write!(f, " on {}", self.device)?;
        for device in &self.other_devices {
            write!(f, ", {device}")?;
        }
        match &self.detections {
            None => {}
            Some(found) if found.landmarks > 0 => write!(f, " + detections with {} landmarks ({})", found.landmarks, found.model)?,
            Some(found) => write!(f, " + detections ({})", found.model)?,
        }
        if !self.frame_models.is_empty() {
            write!(f, " + attributes ({})", self.frame_models.join(", "))?;
        }
        self.parts.as_ref().map_or(Ok(()), |parts| write!(f, ", next model on {parts}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_like_a_sentence() {
        let format = EdgeFormat {
            streams: Some(1),
            size: Some((1280, 720)),
            pixel_format: Some(PixelFormat::Yuv420p),
            frame_rate: Rational::new(30_000, 1001),
            is_live: false,
            device: Device::Cpu,
            detections: Some(DetectionFormat {
                model: "centerface".into(),
                labels: vec!["face".into()],
                landmarks: 5,
                max_unanalysed_frames: 0,
                ..DetectionFormat::default()
            }),
            ..EdgeFormat::default()
        };
        assert_eq!(format.to_string(), "1280x720 yuv420p 29.97 fps on cpu + detections with 5 landmarks (centerface)");
        assert_eq!(EdgeFormat::default().to_string(), "frames of any size on cpu");
        let parts = EdgeFormat { frame_models: vec!["weather".into()], parts: Some(PartFormat::Tiles), ..EdgeFormat::default() };
        assert_eq!(parts.to_string(), "frames of any size on cpu + attributes (weather), next model on tiles");
        let live = EdgeFormat { streams: Some(3), is_live: true, ..EdgeFormat::default() };
        assert_eq!(live.to_string(), "frames of any size, 3 streams, live on cpu");
    }
}
