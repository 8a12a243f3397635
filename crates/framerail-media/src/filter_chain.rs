//! A chain of FFmpeg filters with one input and one output.

use std::ptr;

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{
    MediaError,
    av::{self, AvFrame, FilterNetwork},
};

/// A filter by FFmpeg's name, with its arguments.
pub(crate) type Filter<'a> = (&'a str, &'a str);

/// A configured chain.
pub(crate) struct FilterChain {
    graph: FilterNetwork,
    source: *mut ffi::AVFilterContext,
    sink: *mut ffi::AVFilterContext,
    name: String,
}

// SAFETY: a filter graph may be used from any thread, one at a time, which `&mut self` ensures.
unsafe impl Send for FilterChain {}

impl FilterChain {
    /// Links filters in order: a buffer source, the filters, a buffer sink. With `may_convert` FFmpeg inserts conversions
    /// between filters without a common format.
    ///
    /// # Errors
    /// `Unsupported` if this FFmpeg lacks a filter, `Ffmpeg` if the filters do not fit together.
    pub(crate) fn build(filters: &[Filter<'_>], may_convert: bool) -> Result<Self, MediaError> {
        let name = filters.get(1).map_or("", |(name, _)| name).to_owned();
        let mut chain = Self { graph: FilterNetwork::new(), source: ptr::null_mut(), sink: ptr::null_mut(), name };
        for filter in filters {
            let added = chain.add(filter)?;
            if chain.source.is_null() {
                chain.source = added;
            } else {
                // SAFETY: filters of this graph with one input and one output each.
                chain.check(unsafe { ffi::avfilter_link(chain.sink, 0, added, 0) })?;
            }
            chain.sink = added;
        }
        // SAFETY: a graph whose filters are linked.
        let code = unsafe {
            if !may_convert {
                ffi::avfilter_graph_set_auto_convert(chain.graph.as_mut_ptr(), u32::MAX);
            }
            ffi::avfilter_graph_config(chain.graph.as_mut_ptr(), ptr::null_mut())
        };
        chain.check(code)?;
        Ok(chain)
    }

    fn add(&mut self, (name, arguments): &Filter<'_>) -> Result<*mut ffi::AVFilterContext, MediaError> {
        let (c_name, c_arguments) = (av::c_string(name), av::c_string(arguments));
        let mut context = ptr::null_mut();
        // SAFETY: zero-terminated strings and a live graph, which owns the new filter.
        let code = unsafe {
            let filter = ffi::avfilter_get_by_name(c_name.as_ptr());
            if filter.is_null() {
                let reason = "this FFmpeg was built without it".into();
                return Err(MediaError::Unsupported { what: format!("the filter {name}"), reason });
            }
            let graph = self.graph.as_mut_ptr();
            ffi::avfilter_graph_create_filter(&mut context, filter, c_name.as_ptr(), c_arguments.as_ptr(), ptr::null_mut(), graph)
        };
        if code < 0 { Err(av::error(format!("setting up the filter {name}"), code)) } else { Ok(context) }
    }

    fn check(&self, code: i32) -> Result<(), MediaError> {
        if code < 0 { Err(av::error(format!("the filter {}", self.name), code)) } else { Ok(()) }
    }

    /// Sends a frame, which the chain references; `None` signals the end.
    pub(crate) fn send(&mut self, frame: Option<&mut AvFrame>) -> Result<(), MediaError> {
        let frame = frame.map_or(ptr::null_mut(), AvFrame::as_mut_ptr);
        // SAFETY: a configured source, and a valid frame or null.
        let code = unsafe { ffi::av_buffersrc_add_frame_flags(self.source, frame, ffi::AV_BUFFERSRC_FLAG_KEEP_REF.0 as i32) };
        self.check(code)
    }

    /// Returns the next result, if one is ready.
    pub(crate) fn receive(&mut self) -> Result<Option<AvFrame>, MediaError> {
        let mut frame = AvFrame::new();
        // SAFETY: a configured sink and an owned frame.
        let code = unsafe { ffi::av_buffersink_get_frame(self.sink, frame.as_mut_ptr()) };
        if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF {
            return Ok(None);
        }
        self.check(code)?;
        Ok(Some(frame))
    }

    /// Time base of the results.
    pub(crate) fn time_base(&self) -> TimeBase {
        // SAFETY: a configured sink.
        av::time_base(unsafe { ffi::av_buffersink_get_time_base(self.sink) })
    }
}
