//! Deinterlacing through libavfilter.

use std::collections::VecDeque;

use framerail_core::{CoreError, FieldOrder, Frame, PixelFormat, Surface, TimeBase};

use crate::{MediaError, av, filter_chain::FilterChain, format, surface};

/// The algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeinterlaceMethod {
    /// Bob Weaver Deinterlacing Filter: better quality.
    #[default]
    Bwdif,
    /// Yet Another Deinterlacing Filter: faster.
    Yadif,
}

/// Converts each interlaced frame to one progressive frame with the same number and PTS. Progressive frames pass unchanged
/// unless `all` is set.
///
/// The filter needs the next frame: [`Deinterlacer::pull`] lags one frame behind until [`Deinterlacer::end`].
pub struct Deinterlacer {
    method: DeinterlaceMethod,
    all: bool,
    graph: Option<Graph>,
    /// Frames inside the filter, whose properties are copied to the results.
    inside: VecDeque<Frame>,
    ready: VecDeque<Frame>,
    deinterlaced: u64,
}

/// The input format that a graph was built for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    format: PixelFormat,
    width: u32,
    height: u32,
}

struct Graph {
    chain: FilterChain,
    shape: Shape,
}

impl Deinterlacer {
    /// Creates a deinterlacer; `all` treats all frames as interlaced, even if their stream does not say so.
    pub fn new(method: DeinterlaceMethod, all: bool) -> Self {
        av::init();
        Self { method, all, graph: None, inside: VecDeque::new(), ready: VecDeque::new(), deinterlaced: 0 }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// `Core` for a device surface, `Unsupported` if this FFmpeg lacks the filter or the filter rejects the format.
    pub fn push(&mut self, mut frame: Frame) -> Result<(), MediaError> {
        let host = frame.surface.host()?;
        let shape = Shape { format: host.format(), width: host.width(), height: host.height() };
        if self.graph.as_ref().is_none_or(|graph| graph.shape != shape) {
            self.end()?;
            self.graph = Some(Graph::build(self.method, self.all, shape)?);
        }
        let Some(graph) = &mut self.graph else { return Ok(()) };
        let mut image = surface::lend(host)?;
        image.pts = frame.pts.0;
        let is_interlaced = self.all || frame.field_order != FieldOrder::Progressive;
        image.interlaced_frame = is_interlaced.into();
        image.top_field_first = (frame.field_order != FieldOrder::BottomFirst).into();
        self.deinterlaced += u64::from(is_interlaced);
        if is_interlaced {
            frame.field_order = FieldOrder::Progressive;
        }
        self.inside.push_back(frame);
        graph.chain.send(Some(&mut image))?;
        self.collect()
    }

    /// Returns the next result, if one is ready.
    pub fn pull(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Drains the filter; [`Deinterlacer::pull`] returns the remaining frames. Frames may be pushed again afterwards.
    ///
    /// # Errors
    /// `Ffmpeg` when the filter fails.
    pub fn end(&mut self) -> Result<(), MediaError> {
        if let Some(graph) = &mut self.graph {
            graph.chain.send(None)?;
            self.collect()?;
        }
        self.graph = None;
        Ok(())
    }

    /// Number of frames deinterlaced so far.
    pub fn deinterlaced(&self) -> u64 {
        self.deinterlaced
    }

    fn collect(&mut self) -> Result<(), MediaError> {
        while let Some(graph) = &mut self.graph {
            let Some(image) = graph.chain.receive()? else { return Ok(()) };
            // Results come in order, one per frame; the filters count time in half ticks.
            let pts = graph.chain.time_base().rescale(image.pts, TimeBase::MICROS);
            while self.inside.front().is_some_and(|frame| frame.pts.0 < pts) {
                self.inside.pop_front();
            }
            let Some(mut frame) = self.inside.pop_front() else { continue };
            let Some(surface) = surface::wrap(image, graph.shape.format) else {
                return Err(CoreError::NotOnHost.into());
            };
            frame.surface = Surface::Host(surface);
            self.ready.push_back(frame);
        }
        Ok(())
    }
}

impl Graph {
    fn build(method: DeinterlaceMethod, all: bool, shape: Shape) -> Result<Self, MediaError> {
        let name = match method {
            DeinterlaceMethod::Bwdif => "bwdif",
            DeinterlaceMethod::Yadif => "yadif",
        };
        let format = format::av_format(shape.format).0;
        let input = format!("video_size={}x{}:pix_fmt={format}:time_base=1/1000000:pixel_aspect=1/1", shape.width, shape.height);
        let all = if all { "all" } else { "interlaced" };
        let settings = format!("mode=send_frame:deint={all}");
        // Disable automatic conversions: FFmpeg would insert one if the filter rejects the format.
        match FilterChain::build(&[("buffer", &input), (name, &settings), ("buffersink", "")], false) {
            Ok(chain) => Ok(Self { chain, shape }),
            Err(MediaError::Ffmpeg { .. }) => {
                let reason = "convert to a planar 8 to 12-bit format first".into();
                Err(MediaError::Unsupported { what: format!("{name} on {}", shape.format), reason })
            }
            Err(error) => Err(error),
        }
    }
}
