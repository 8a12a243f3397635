//! The image server as a sink.

use std::{env, sync::Arc};

use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OnSinkError, Options, PlanError, Stage, StageContext,
    StageError, StagePlan, Work,
};
use framerail_serve::{BoundServer, Content, ImageOptions, ImageThread, LiveImages, NamedStream, ServeError, ServeOptions, Server};
use parking_lot::Mutex;

use super::super::link::input_of;

pub(super) struct MjpegPlan {
    serve: ServeOptions,
    images: ImageOptions,
}

impl MjpegPlan {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let token = match options.optional_text("token_env") {
            None => None,
            Some(name) => Some(env::var(name).map_err(|_| {
                ConfigError::at("token_env", format_args!("the environment variable `{name}` is not set")).help("set it to the token")
            })?),
        };
        let images = ImageOptions {
            max_side: options.optional_integer("max_side").and_then(|side| u32::try_from(side).ok()),
            rate: options.optional_float("fps"),
            quality: u8::try_from(options.integer("quality")).unwrap_or(100),
            overlay: options.switch("overlay"),
            share: None,
        };
        let serve = ServeOptions { address: options.text("address").to_owned(), token, hosts: Vec::new(), sources: None };
        Ok(Self { serve, images })
    }
}

impl StagePlan for MjpegPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        input_of(input)?;
        Ok(None)
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn on_error(&self) -> OnSinkError {
        OnSinkError::Drop
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let bound = BoundServer::bind(&self.serve).map_err(stage_error)?;
        let (images, thread) = LiveImages::start(self.images).map_err(stage_error)?;
        let stage = Mjpeg { bound: Some(bound), server: None, images, _thread: thread, streams: Arc::default(), made: None };
        Ok(Work::Stages(vec![Box::new(stage)]))
    }
}

fn stage_error(error: ServeError) -> StageError {
    // The message of a served run names its own variable.
    let message = match &error {
        ServeError::TokenNeeded { address } => {
            format!("{address} is reachable from other machines; set token_env=VARIABLE, or serve at 127.0.0.1")
        }
        _ => error.to_string(),
    };
    StageError::new(error.kind(), message)
}

struct Mjpeg {
    /// Until the run begins.
    bound: Option<BoundServer>,
    /// Dropped before the thread that makes its images.
    server: Option<Server>,
    images: LiveImages,
    _thread: ImageThread,
    streams: Arc<Mutex<Vec<NamedStream>>>,
    made: Option<Counter>,
}

impl Stage for Mjpeg {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.made = Some(context.counter("pictures_made"));
        let Some(bound) = self.bound.take() else { return Ok(()) };
        let is_any_port = bound.is_any_port();
        let server = bound.serve(Content::LiveImages(Arc::clone(&self.streams)), &self.images).map_err(stage_error)?;
        if is_any_port {
            context.notice(format_args!("serves at http://{}/", server.address()));
        }
        self.server = Some(server);
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.images.offer(&item);
        self.count();
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.streams.lock().push(NamedStream { id: info.id.0, name: info.name.clone() }),
            Item::StreamEnd(end) => self.streams.lock().retain(|stream| stream.id != end.id.0),
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        self.count();
        Ok(())
    }
}

impl Mjpeg {
    fn count(&self) {
        if let Some(made) = &self.made {
            made.set(self.images.made());
        }
    }
}
