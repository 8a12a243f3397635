//! The `mjpeg` stage: serves frames as Motion JPEG.

#[cfg(feature = "serve")]
mod sink;

use framerail_pipeline::{ArgumentSpec, ConfigError, OptionKind, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    StageSpec::sink("mjpeg", "serves frames as Motion JPEG over HTTP")
        .details(
            "Each stream is at http://ADDRESS/NAME.mjpg as a continuous image (multipart/x-mixed-replace), and at NAME.jpg as a single \
             one; its number works as well as its name. / shows all streams. Browsers, players and `read` can open it.\n\nImages are made \
             only while a client requests them, from the latest frame: slow clients and a slow encoder get fewer images, and never delay \
             the pipeline. Frames on a GPU are copied to the host for this. Addresses other than loopback need a token, which comes from \
             an environment variable and is sent as `Authorization: Bearer`, or once as ?token=.",
        )
        .argument(ArgumentSpec::required(
            "address",
            OptionKind::Text,
            "address to serve at, such as 127.0.0.1:8090; port 0 selects a free \
                                                                       port",
        ))
        .option(OptionSpec::integer("quality", 1..=100).default(80).help("quality of JPEG, 100 is best"))
        .option(OptionSpec::float("fps", 0.1..=1000.0).unit("frames/s").help("maximum images per second and stream; default: every frame"))
        .option(
            OptionSpec::integer("max_side", 16..=32_768).unit("pixels").help("maximum longer side of images; default: the frame's size"),
        )
        .option(OptionSpec::switch("overlay").default("no").help("whether detections are drawn"))
        .option(OptionSpec::text("token_env").help("environment variable that holds the token"))
        .example("read rtsp://host/cam ! infer centerface ! blur ! mjpeg 127.0.0.1:8090", "a camera with blurred faces, live")
        .example("read in.mp4 realtime=yes ! mjpeg 127.0.0.1:8090 fps=10 max_side=640", "small, ten images per second")
}

#[cfg(feature = "serve")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(sink::MjpegPlan::new(options)?))
}

#[cfg(not(feature = "serve"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build serves nothing").help("build with `--features serve`"))
}
