//! Deinterlacing through libavfilter.

use std::{collections::VecDeque, ptr, ptr::NonNull};

use ffmpeg_the_third::ffi;
use framerail_core::{CoreError, FieldOrder, Frame, PixelFormat, Surface, TimeBase};

use crate::{
    MediaError,
    av::{self, AvFrame},
    format, surface,
};

/// The algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeinterlaceMethod {
    /// Bob, weave: the better picture.
    #[default]
    Bwdif,
    /// Yet another deinterlacing filter: faster.
    Yadif,
}

/// Turns each interlaced frame into one progressive frame, keeping number and PTS. Progressive frames pass untouched
/// unless `all` is set.
///
/// The filter looks one frame ahead: [`Deinterlacer::pull`] lags one frame behind until [`Deinterlacer::end`].
pub struct Deinterlacer {
    method: DeinterlaceMethod,
    all: bool,
    graph: Option<Graph>,
    /// Frames inside, whose properties the results take over.
    inside: VecDeque<Frame>,
    ready: VecDeque<Frame>,
    deinterlaced: u64,
}

/// What a graph was made for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    format: PixelFormat,
    width: u32,
    height: u32,
}

struct Graph {
    graph: NonNull<ffi::AVFilterGraph>,
    source: *mut ffi::AVFilterContext,
    sink: *mut ffi::AVFilterContext,
    shape: Shape,
}

// SAFETY: a filter graph may be used from any thread, one at a time, which `&mut self` ensures.
unsafe impl Send for Graph {}

impl Deinterlacer {
    /// A deinterlacer; `all` treats frames as interlaced even when their stream does not say so.
    pub fn new(method: DeinterlaceMethod, all: bool) -> Self {
        av::init();
        Self { method, all, graph: None, inside: VecDeque::new(), ready: VecDeque::new(), deinterlaced: 0 }
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// `Core` for a device surface, `Unsupported` when this FFmpeg lacks the filter or it does not take the format.
    pub fn push(&mut self, mut frame: Frame) -> Result<(), MediaError> {
        let host = frame.surface.host()?;
        let shape = Shape { format: host.format(), width: host.width(), height: host.height() };
        if self.graph.as_ref().is_none_or(|graph| graph.shape != shape) {
            self.end()?;
            self.graph = Some(Graph::build(self.method, self.all, shape)?);
        }
        let Some(graph) = &mut self.graph else { return Ok(()) };
        let mut picture = surface::lend(host)?;
        picture.pts = frame.pts.0;
        let is_interlaced = self.all || frame.field_order != FieldOrder::Progressive;
        picture.interlaced_frame = is_interlaced.into();
        picture.top_field_first = (frame.field_order != FieldOrder::BottomFirst).into();
        self.deinterlaced += u64::from(is_interlaced);
        if is_interlaced {
            frame.field_order = FieldOrder::Progressive;
        }
        self.inside.push_back(frame);
        // SAFETY: a configured source and a valid picture, to which the graph keeps its own references.
        let code =
            unsafe { ffi::av_buffersrc_add_frame_flags(graph.source, picture.as_mut_ptr(), ffi::AV_BUFFERSRC_FLAG_KEEP_REF.0 as i32) };
        if code < 0 {
            return Err(av::error("deinterlacing", code));
        }
        self.collect()
    }

    /// The next result, if there is one now.
    pub fn pull(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Lets out what the filter holds back; [`Deinterlacer::pull`] gives it. Frames may be pushed again afterwards.
    ///
    /// # Errors
    /// `Ffmpeg` when the filter fails.
    pub fn end(&mut self) -> Result<(), MediaError> {
        if let Some(graph) = &mut self.graph {
            // SAFETY: a configured source; null is the end.
            let code = unsafe { ffi::av_buffersrc_add_frame_flags(graph.source, ptr::null_mut(), 0) };
            if code < 0 {
                return Err(av::error("deinterlacing", code));
            }
            self.collect()?;
        }
        self.graph = None;
        Ok(())
    }

    /// Frames that were interlaced, so far.
    pub fn deinterlaced(&self) -> u64 {
        self.deinterlaced
    }

    fn collect(&mut self) -> Result<(), MediaError> {
        while let Some(graph) = &mut self.graph {
            let mut picture = AvFrame::new();
            // SAFETY: a configured sink and an owned frame.
            let code = unsafe { ffi::av_buffersink_get_frame(graph.sink, picture.as_mut_ptr()) };
            if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF {
                return Ok(());
            }
            if code < 0 {
                return Err(av::error("deinterlacing", code));
            }
            // Results come in order, one for each frame; the filters count time in half ticks.
            // SAFETY: a configured sink.
            let base = av::time_base(unsafe { ffi::av_buffersink_get_time_base(graph.sink) });
            let pts = base.rescale(picture.pts, TimeBase::MICROS);
            while self.inside.front().is_some_and(|frame| frame.pts.0 < pts) {
                self.inside.pop_front();
            }
            let Some(mut frame) = self.inside.pop_front() else { continue };
            let Some(surface) = surface::wrap(picture, graph.shape.format) else {
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
        // SAFETY: no preconditions.
        let Some(graph) = NonNull::new(unsafe { ffi::avfilter_graph_alloc() }) else {
            return Err(av::error("deinterlacing", ffi::AVERROR(libc::ENOMEM)));
        };
        let mut built = Self { graph, source: ptr::null_mut(), sink: ptr::null_mut(), shape };
        let format = format::av_format(shape.format).0;
        let input = format!("video_size={}x{}:pix_fmt={format}:time_base=1/1000000:pixel_aspect=1/1", shape.width, shape.height);
        let all = if all { "all" } else { "interlaced" };
        built.source = built.add("buffer", &input)?;
        let deinterlace = built.add(name, &format!("mode=send_frame:deint={all}"))?;
        built.sink = built.add("buffersink", "")?;
        // SAFETY: filters of this graph with one input and one output each.
        let code = unsafe {
            let first = ffi::avfilter_link(built.source, 0, deinterlace, 0);
            let second = ffi::avfilter_link(deinterlace, 0, built.sink, 0);
            // Without this a conversion would slip in where the filter does not take the format.
            ffi::avfilter_graph_set_auto_convert(graph.as_ptr(), u32::MAX);
            let configured = ffi::avfilter_graph_config(graph.as_ptr(), ptr::null_mut());
            first.min(second).min(configured)
        };
        if code < 0 {
            let reason = "convert to a planar 8 to 12-bit format first".into();
            return Err(MediaError::Unsupported { what: format!("{name} on {}", shape.format), reason });
        }
        Ok(built)
    }

    fn add(&mut self, name: &str, arguments: &str) -> Result<*mut ffi::AVFilterContext, MediaError> {
        let (c_name, c_arguments) = (av::c_string(name), av::c_string(arguments));
        let mut context = ptr::null_mut();
        // SAFETY: zero-ended strings and a live graph, which owns the new filter.
        let code = unsafe {
            let filter = ffi::avfilter_get_by_name(c_name.as_ptr());
            if filter.is_null() {
                return Err(MediaError::Unsupported {
                    what: format!("the filter {name}"),
                    reason: "this FFmpeg was built without it".into(),
                });
            }
            ffi::avfilter_graph_create_filter(
                &mut context,
                filter,
                c_name.as_ptr(),
                c_arguments.as_ptr(),
                ptr::null_mut(),
                self.graph.as_ptr(),
            )
        };
        if code < 0 { Err(av::error(format!("setting up the filter {name}"), code)) } else { Ok(context) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let mut graph = self.graph.as_ptr();
        // SAFETY: owned by self and freed once, with its filters.
        unsafe { ffi::avfilter_graph_free(&mut graph) };
    }
}
