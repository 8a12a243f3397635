//! The `upload` stage: copies frames from host memory to a GPU.

use std::sync::Arc;

use framerail_core::Device;
use framerail_cuda::{CudaDevice, Traffic};
use framerail_pipeline::{
    ConfigError, DeviceChoice, EdgeFormat, Emitter, Flow, FrameItem, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError,
    Stage, StageContext, StageError, StagePlan, StageSpec, Work, copies::UPLOAD,
};

use super::link::input_of;
use crate::{
    convert::cuda_error,
    devices::{account, unusable},
    uploader::Uploader,
};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| UploadPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform(UPLOAD, "copies frames to a GPU, from the host or from other GPUs")
        .details(
            "Inserted automatically before a stage that works on a GPU, and rarely written. Frames that are on that GPU pass unchanged; \
             those of another GPU are copied over the link between the two.",
        )
        .option(OptionSpec::text("device").default("cuda").help("the GPU: cuda or cuda:N"))
        .example(
            "read in.mp4 device=cpu ! upload ! infer centerface device=cuda ! save boxes.jsonl",
            "decoded on the host, analysed on a GPU",
        )
}

struct UploadPlan {
    device: Device,
    gpu: Option<Arc<CudaDevice>>,
}

impl UploadPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        match DeviceChoice::of(options)? {
            Some(DeviceChoice::On(device @ Device::Cuda(_))) => Ok(Self { device, gpu: None }),
            _ => Err(ConfigError::at("device", "frames are uploaded to a GPU").help("write device=cuda or device=cuda:N")),
        }
    }
}

impl StagePlan for UploadPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        if let Device::Cuda(ordinal) = self.device {
            self.gpu = Some(CudaDevice::open(ordinal).map_err(|error| unusable(self.device, &error.to_string()))?);
        }
        Ok(Some(EdgeFormat { device: self.device, other_devices: Vec::new(), ..input.clone() }))
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let gpu = match (self.gpu, self.device) {
            (Some(gpu), _) => gpu,
            (None, Device::Cuda(ordinal)) => CudaDevice::open(ordinal).map_err(cuda_error)?,
            (None, Device::Cpu) => return Err(unusable(Device::Cpu, "frames are uploaded to a GPU")),
        };
        Ok(Work::Stages(vec![Box::new(Upload { uploader: Uploader::new(&gpu).map_err(cuda_error)?, context: None })]))
    }
}

struct Upload {
    uploader: Uploader,
    context: Option<StageContext>,
}

impl Stage for Upload {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.uploader.bring(&mut item.frame).map_err(cuda_error)?;
        if let Some(context) = &self.context {
            account(context, Traffic::take());
            context.memory(self.uploader.device(), self.uploader.memory_bytes());
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }
}
