//! Runs any FFmpeg video filter graph with one input and one output on frames.

use std::{collections::BTreeMap, ptr};

use ffmpeg_the_third::ffi;
use framerail_core::{
    ColorDescription, ColorMatrix, ColorRange, FieldOrder, Frame, HostSurface, PixelFamily, PixelFormat, Rational, TimeBase,
};

use crate::{
    MediaError,
    av::{self, AvFrame, FilterNetwork},
    color::{self, AvColor},
    filter_text::{self, FilterChains, FilterText},
    format, surface,
};

/// The metadata key that identifies a result's source frame; filters pass a frame's metadata on.
const TAG: &str = "framerail.frame";

/// A parsed filter graph in FFmpeg's syntax.
#[derive(Clone, Debug)]
pub struct VideoFilter {
    text: String,
    chains: FilterChains,
}

/// Properties of a stream's frames before or after filters.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterFormat {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Pixel format.
    pub format: PixelFormat,
    /// Time base of the PTS.
    pub time_base: TimeBase,
    /// Pixel aspect ratio; `None` when unknown.
    pub sample_aspect_ratio: Option<Rational>,
    /// Frames per second; `None` when unknown or variable.
    pub frame_rate: Option<Rational>,
}

impl VideoFilter {
    /// Parses a filter graph. Filters that open files, devices or the network are refused unless `may_open` is set.
    ///
    /// # Errors
    /// `BadOption` for a text that is not a filter graph, `Refused` for filters that open something, `Unsupported` for a filter that
    /// this FFmpeg does not have.
    pub fn parse(text: &str, may_open: bool) -> Result<Self, MediaError> {
        av::init();
        let chains = filter_text::parse(text)?;
        if !may_open {
            filter_text::check_closed(&chains)?;
        }
        chains.iter().flatten().try_for_each(|filter| find(&filter.name).map(drop))?;
        Ok(Self { text: text.to_owned(), chains })
    }

    /// The first filter that moves pixels within the frame, so that detections no longer match.
    pub fn moving(&self) -> Option<&str> {
        filter_text::moving(&self.chains)
    }

    /// Creates the filters for frames of a format.
    ///
    /// # Errors
    /// `Unsupported` for a filter that this FFmpeg does not have, `BadOption` for invalid arguments or links, or for output
    /// in a format that framerail does not support.
    pub fn open(&self, input: &FilterFormat) -> Result<FilterGraph, MediaError> {
        FilterGraph::open(self, input)
    }
}

/// A pad of a filter: its context and the number of its input or output.
type Pad = (*mut ffi::AVFilterContext, u32);

/// A configured filter graph.
pub struct FilterGraph {
    graph: FilterNetwork,
    source: *mut ffi::AVFilterContext,
    sink: *mut ffi::AVFilterContext,
    input: FilterFormat,
    output: FilterFormat,
    text: String,
}

// SAFETY: a filter graph may be used from any thread, one at a time, which `&mut self` ensures.
unsafe impl Send for FilterGraph {}

/// A filtered frame.
#[derive(Debug)]
pub struct Filtered {
    /// The frame's surface.
    pub surface: HostSurface,
    /// PTS in ticks of the graph's output time base; `None` if the filter set none.
    pub pts: Option<i64>,
    /// Pixel aspect ratio.
    pub sample_aspect_ratio: Option<Rational>,
    /// Colour tags.
    pub color: ColorDescription,
    /// Field order.
    pub field_order: FieldOrder,
    /// The tag of its source frame, as passed to [`FilterGraph::send`], if known.
    pub tag: Option<u64>,
}

impl FilterGraph {
    fn open(filter: &VideoFilter, input: &FilterFormat) -> Result<Self, MediaError> {
        let (graph, source, sink) = (FilterNetwork::new(), ptr::null_mut(), ptr::null_mut());
        let mut made = Self { graph, source, sink, input: input.clone(), output: input.clone(), text: filter.text.clone() };
        let format = format::av_format(input.format).0;
        let base = input.time_base.ratio();
        let aspect = input.sample_aspect_ratio.map_or_else(|| "0/1".to_owned(), |ratio| format!("{}/{}", ratio.num, ratio.den));
        let rate = input.frame_rate.map(|rate| format!(":frame_rate={}/{}", rate.num, rate.den)).unwrap_or_default();
        let given = format!(
            "video_size={}x{}:pix_fmt={format}:time_base={}/{}:pixel_aspect={aspect}{rate}",
            input.width, input.height, base.num, base.den
        );
        made.source = made.add("buffer", &given)?;
        let (entry, exit) = made.link_chains(&filter.chains)?;
        // Convert formats that framerail does not support to the nearest one that it does.
        let formats: Vec<String> = PixelFormat::ALL.iter().map(|format| format::name(format::av_format(*format).0)).collect();
        let last = made.add("format", &format!("pix_fmts={}", formats.join("|")))?;
        made.sink = made.add("buffersink", "")?;
        made.link((made.source, 0), entry)?;
        made.link(exit, (last, 0))?;
        made.link((last, 0), (made.sink, 0))?;
        // SAFETY: a graph whose filters are linked.
        let code = unsafe { ffi::avfilter_graph_config(made.graph.as_mut_ptr(), ptr::null_mut()) };
        if code < 0 {
            return Err(made.wrong(format_args!("the filters do not take these frames: {}", av::error_text(code))));
        }
        made.output = made.described()?;
        Ok(made)
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> MediaError {
        MediaError::BadOption { name: "filters".into(), reason: format!("`{}`: {reason}", self.text), nearest: None }
    }

    fn add(&mut self, name: &str, arguments: &str) -> Result<*mut ffi::AVFilterContext, MediaError> {
        let (filter, c_name, c_arguments) = (find(name)?, av::c_string(name), av::c_string(arguments));
        let mut context = ptr::null_mut();
        // SAFETY: zero-terminated strings and a live graph, which owns the new filter.
        let code = unsafe {
            let graph = self.graph.as_mut_ptr();
            ffi::avfilter_graph_create_filter(&mut context, filter, c_name.as_ptr(), c_arguments.as_ptr(), ptr::null_mut(), graph)
        };
        if code < 0 {
            let shown = if arguments.is_empty() { "no arguments".to_owned() } else { format!("`{arguments}`") };
            return Err(self.wrong(format_args!("the filter {name} does not take {shown}: {}", av::error_text(code))));
        }
        Ok(context)
    }

    fn link(&self, from: Pad, to: Pad) -> Result<(), MediaError> {
        // SAFETY: filters of this graph, and pads that they have.
        let code = unsafe { ffi::avfilter_link(from.0, from.1, to.0, to.1) };
        if code < 0 { Err(self.wrong(format_args!("filters cannot be linked: {}", av::error_text(code)))) } else { Ok(()) }
    }

    /// Creates and links the filters; returns the only unconnected input and output.
    fn link_chains(&mut self, chains: &FilterChains) -> Result<(Pad, Pad), MediaError> {
        let (mut wanted, mut given): (BTreeMap<String, Pad>, BTreeMap<String, Pad>) = Default::default();
        let (mut entries, mut exits) = (Vec::new(), Vec::new());
        for chain in chains {
            let mut before: Vec<Pad> = Vec::new();
            for filter in chain {
                let context = self.add(&filter.name, &filter.arguments)?;
                // SAFETY: a filter that was just made; its counts of pads are plain numbers.
                let (inputs, outputs) = unsafe { ((*context).nb_inputs, (*context).nb_outputs) };
                self.check_pads(context, filter, inputs, outputs)?;
                let mut labels = filter.inputs.iter();
                let mut open = std::mem::take(&mut before).into_iter();
                for pad in (0..inputs).map(|pad| (context, pad)) {
                    match (labels.next(), open.next()) {
                        (Some(label), unused) => {
                            before.extend(unused);
                            if wanted.insert(label.clone(), pad).is_some() {
                                return Err(self.wrong(format_args!("the label [{label}] is used as an input twice")));
                            }
                        }
                        (None, Some(from)) => self.link(from, pad)?,
                        (None, None) => entries.push(pad),
                    }
                }
                if let Some(label) = labels.next() {
                    return Err(self.wrong(format_args!("the filter {} has {inputs} inputs, and [{label}] is one more", filter.name)));
                }
                // Unconnected outputs leave the graph.
                exits.extend(std::mem::take(&mut before).into_iter().chain(open));
                let mut labels = filter.outputs.iter();
                for pad in (0..outputs).map(|pad| (context, pad)) {
                    match labels.next() {
                        Some(label) if given.insert(label.clone(), pad).is_some() => {
                            return Err(self.wrong(format_args!("the label [{label}] is used as an output twice")));
                        }
                        Some(_) => {}
                        None => before.push(pad),
                    }
                }
                if let Some(label) = labels.next() {
                    return Err(self.wrong(format_args!("the filter {} has {outputs} outputs, and [{label}] is one more", filter.name)));
                }
            }
            exits.append(&mut before);
        }
        for (label, to) in wanted {
            match given.remove(&label) {
                Some(from) => self.link(from, to)?,
                None => entries.push(to),
            }
        }
        exits.extend(given.into_values());
        match (&entries[..], &exits[..]) {
            (&[entry], &[exit]) => Ok((entry, exit)),
            (entries, exits) => {
                let (inputs, outputs) = (entries.len(), exits.len());
                Err(self
                    .wrong(format_args!("it must have one input and one output, and has {inputs} and {outputs}; link others by [labels]")))
            }
        }
    }

    /// Checks that all pads are video.
    fn check_pads(&self, context: *mut ffi::AVFilterContext, filter: &FilterText, inputs: u32, outputs: u32) -> Result<(), MediaError> {
        // SAFETY: a live filter, and pads below its counts.
        let is_video = unsafe {
            let video = ffi::AVMediaType::VIDEO;
            (0..inputs).all(|pad| ffi::avfilter_pad_get_type((*context).input_pads, pad as i32) == video)
                && (0..outputs).all(|pad| ffi::avfilter_pad_get_type((*context).output_pads, pad as i32) == video)
        };
        if is_video { Ok(()) } else { Err(self.wrong(format_args!("the filter {} does not process only video", filter.name))) }
    }

    /// The format of the output.
    fn described(&self) -> Result<FilterFormat, MediaError> {
        // SAFETY: a configured sink.
        let (width, height, format, base, aspect, rate) = unsafe {
            (
                ffi::av_buffersink_get_w(self.sink),
                ffi::av_buffersink_get_h(self.sink),
                ffi::av_buffersink_get_format(self.sink),
                ffi::av_buffersink_get_time_base(self.sink),
                ffi::av_buffersink_get_sample_aspect_ratio(self.sink),
                ffi::av_buffersink_get_frame_rate(self.sink),
            )
        };
        let name = format::name(format);
        let Ok(format) = name.parse() else { return Err(self.wrong(format_args!("it outputs frames of the format {name}"))) };
        let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
            return Err(self.wrong("it outputs frames without a size"));
        };
        Ok(FilterFormat {
            width,
            height,
            format,
            time_base: av::time_base(base),
            sample_aspect_ratio: av::positive(aspect),
            frame_rate: av::positive(rate),
        })
    }

    /// The format of input frames.
    pub fn input(&self) -> &FilterFormat {
        &self.input
    }

    /// The format of output frames.
    pub fn output(&self) -> &FilterFormat {
        &self.output
    }

    /// Sends a frame with a tag. Call [`FilterGraph::receive`] afterwards until it returns `None`.
    ///
    /// # Errors
    /// `Core` for a device surface, `Ffmpeg` when a filter fails.
    pub fn send(&mut self, frame: &Frame, tag: u64) -> Result<(), MediaError> {
        let mut image = surface::lend(frame.surface.host()?)?;
        image.pts = frame.time_base.rescale(frame.pts.0, self.input.time_base);
        image.sample_aspect_ratio = frame.sample_aspect_ratio.map_or(ffi::AVRational { num: 0, den: 1 }, av::rational);
        let tags = AvColor::from(&frame.color);
        (image.colorspace, image.color_range, image.color_primaries) = (tags.space, tags.range, tags.primaries);
        (image.color_trc, image.chroma_location) = (tags.transfer, tags.location);
        image.interlaced_frame = (frame.field_order != FieldOrder::Progressive).into();
        image.top_field_first = (frame.field_order == FieldOrder::TopFirst).into();
        let (key, value) = (av::c_string(TAG), av::c_string(&tag.to_string()));
        // SAFETY: the frame's own dictionary, which the frame owns, and zero-terminated strings, which are copied.
        unsafe {
            ffi::av_dict_set(&mut (*image.as_mut_ptr()).metadata, key.as_ptr(), value.as_ptr(), 0);
        }
        self.push(Some(&mut image))
    }

    /// Signals the end of the stream; [`FilterGraph::receive`] then returns the remaining frames.
    ///
    /// # Errors
    /// `Ffmpeg` when a filter fails.
    pub fn end(&mut self) -> Result<(), MediaError> {
        self.push(None)
    }

    fn push(&mut self, frame: Option<&mut AvFrame>) -> Result<(), MediaError> {
        let frame = frame.map_or(ptr::null_mut(), AvFrame::as_mut_ptr);
        // SAFETY: a configured source, and a valid frame or null.
        let code = unsafe { ffi::av_buffersrc_add_frame_flags(self.source, frame, ffi::AV_BUFFERSRC_FLAG_KEEP_REF.0 as i32) };
        // A filter that needs no more frames, such as trim, has ended.
        if code < 0 && code != ffi::AVERROR_EOF { Err(av::error(format!("filters `{}`", self.text), code)) } else { Ok(()) }
    }

    /// Returns the next result, if one is ready.
    ///
    /// # Errors
    /// `Ffmpeg` when a filter fails.
    pub fn receive(&mut self) -> Result<Option<Filtered>, MediaError> {
        let mut frame = AvFrame::new();
        // SAFETY: a configured sink and an owned frame.
        let code = unsafe { ffi::av_buffersink_get_frame(self.sink, frame.as_mut_ptr()) };
        if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF {
            return Ok(None);
        }
        if code < 0 {
            return Err(av::error(format!("filters `{}`", self.text), code));
        }
        let key = av::c_string(TAG);
        // SAFETY: the frame's own dictionary; the entry is copied before the frame is freed.
        let tag = unsafe {
            let entry = ffi::av_dict_get((*frame.as_ptr()).metadata, key.as_ptr(), ptr::null(), 0);
            if entry.is_null() { None } else { av::string((*entry).value).parse().ok() }
        };
        let format = format::name(frame.format).parse().unwrap_or(self.output.format);
        let mut color = color::describe(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc, frame.chroma_location);
        settle_color(&mut color, self.input.format, format);
        let field_order = match (frame.interlaced_frame != 0, frame.top_field_first != 0) {
            (false, _) => FieldOrder::Progressive,
            (true, true) => FieldOrder::TopFirst,
            (true, false) => FieldOrder::BottomFirst,
        };
        let (pts, sample_aspect_ratio) = (av::timestamp(frame.pts), av::positive(frame.sample_aspect_ratio));
        let Some(surface) = surface::wrap(frame, format) else {
            return Err(MediaError::Ffmpeg { context: format!("filters `{}`", self.text), message: "a frame has no usable memory".into() });
        };
        Ok(Some(Filtered { surface, pts, sample_aspect_ratio, color, field_order, tag }))
    }
}

/// Finds a filter in this FFmpeg.
fn find(name: &str) -> Result<*const ffi::AVFilter, MediaError> {
    let c_name = av::c_string(name);
    // SAFETY: a zero-terminated string; filters are static.
    let filter = unsafe { ffi::avfilter_get_by_name(c_name.as_ptr()) };
    if filter.is_null() {
        let reason = "this FFmpeg does not have it; `ffmpeg -filters` lists those of an installed one".into();
        return Err(MediaError::Unsupported { what: format!("the filter {name}"), reason });
    }
    Ok(filter)
}

/// Corrects the colour tags of frames that filters converted to another family of formats: FFmpeg keeps the source's tags.
pub fn settle_color(color: &mut ColorDescription, from: PixelFormat, to: PixelFormat) {
    match (from.family(), to.family()) {
        (from, to) if from == to => {}
        (_, PixelFamily::Rgb) => (color.matrix, color.range) = (ColorMatrix::Rgb, ColorRange::Full),
        (PixelFamily::Rgb, _) if matches!(color.matrix, ColorMatrix::Rgb | ColorMatrix::Unspecified) => {
            (color.matrix, color.range) = (ColorMatrix::Bt601, ColorRange::Limited);
        }
        _ => {}
    }
}
