//! Several targets of one build: which tags and outputs are whose, and what is written of them.

use base::Reference;
use engine::report::{BuildReport, TargetReport};
use engine::request::{Annotations, LayerOptions, Output, TargetRequest};
use serde_json::{Value, json};

use crate::args::BuildArgs;
use crate::commands::reference;
use crate::error::CliError;
use crate::output::{self, ParsedOutput};

/// The targets of a build.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// The first one's stage; `None` is the last stage of the Dockerfile.
    pub(crate) stage: Option<String>,
    /// The first one's tags.
    pub(crate) tags: Vec<Reference>,
    /// The first one's outputs.
    pub(crate) outputs: Vec<Output>,
    /// The others.
    pub(crate) further: Vec<TargetRequest>,
}

impl Targets {
    /// Reads `--target`, `--tag` and `--output`.
    pub(crate) fn of(args: &BuildArgs) -> Result<Self, CliError> {
        let mut stages: Vec<&String> = Vec::new();
        for stage in args.targets.iter().filter(|stage| !stage.is_empty()) {
            if !stages.iter().any(|known| known.eq_ignore_ascii_case(stage)) {
                stages.push(stage);
            }
        }
        let mut stages = stages.into_iter();
        let mut targets = Self { stage: stages.next().cloned(), ..Self::default() };
        let further =
            |stage: &String| TargetRequest { stage: stage.clone(), tags: Vec::new(), outputs: Vec::new() };
        targets.further = stages.map(further).collect();
        for tag in &args.tags {
            let (stage, name) = match tag.split_once('=') {
                Some((stage, name)) => (Some(stage), name),
                None => (None, tag.as_str()),
            };
            let name = reference(name)?;
            targets.of_stage("--tag", tag, stage)?.0.push(name);
        }
        for text in &args.outputs {
            let ParsedOutput { stage, names, output } = output::parse(text)?;
            let (tags, outputs) = targets.of_stage("--output", text, stage.as_deref())?;
            tags.extend(names);
            outputs.push(output);
        }
        let mut noted = Annotations::default();
        for text in &args.annotations {
            noted.typed(text).map_err(|wrong| output::noted_wrong(&wrong))?;
        }
        let further = targets.further.iter_mut().map(|target| &mut target.outputs);
        for outputs in std::iter::once(&mut targets.outputs).chain(further) {
            if args.load {
                outputs.push(Output::Store(LayerOptions::default()));
            }
            if args.push {
                output::push(outputs)?;
            }
            note(outputs, &noted)?;
        }
        Ok(targets)
    }

    /// The tags and outputs of a stage; without one, of the only target.
    fn of_stage(
        &mut self,
        flag: &str,
        text: &str,
        stage: Option<&str>,
    ) -> Result<(&mut Vec<Reference>, &mut Vec<Output>), CliError> {
        let Some(stage) = stage else {
            if !self.further.is_empty() {
                let hint = "with several targets, write -t STAGE=NAME and -o target=STAGE,type=…,dest=…";
                return Err(CliError::usage(format!("{flag} {text} does not say whose it is"), hint));
            }
            return Ok((&mut self.tags, &mut self.outputs));
        };
        if self.stage.as_ref().is_some_and(|first| first.eq_ignore_ascii_case(stage)) {
            return Ok((&mut self.tags, &mut self.outputs));
        }
        let found = self.further.iter_mut().find(|target| target.stage.eq_ignore_ascii_case(stage));
        let found = found.ok_or_else(|| {
            let message = format!("{flag} {text} is for \"{stage}\", which is not built");
            CliError::usage(message, &format!("add --target {stage}"))
        })?;
        Ok((&mut found.tags, &mut found.outputs))
    }
}

/// What `--iidfile` holds: the id, or a line with the id of each target in their order.
pub(crate) fn ids(report: &BuildReport) -> String {
    match report.targets.as_slice() {
        [only] => only.image_id.to_string(),
        all => all.iter().map(|target| format!("{}\n", target.image_id)).collect(),
    }
}

/// What `--metadata-file` holds, in buildx's words: of one target as `buildx build` writes it, of several as `buildx
/// bake` does.
pub(crate) fn metadata(report: &BuildReport) -> Value {
    let one = |target: &TargetReport| {
        let mut fields = json!({
            "containerimage.config.digest": target.image_id.to_string(),
            "containerimage.digest": target.manifest.to_string(),
        });
        if let Some(record) = &report.record {
            fields["buildx.build.ref"] = record.build.clone().into();
        }
        if !target.names.is_empty() {
            fields["image.name"] = target.names.join(",").into();
        }
        fields
    };
    match report.targets.as_slice() {
        [only] => one(only),
        all => all.iter().map(|target| (target.stage.clone().unwrap_or_default(), one(target))).collect(),
    }
}

/// Notes things on all images of a target.
fn note(outputs: &mut Vec<Output>, noted: &Annotations) -> Result<(), CliError> {
    if noted.is_empty() {
        return Ok(());
    }
    if outputs.is_empty() {
        outputs.push(Output::Store(LayerOptions::default()));
    }
    let mut images = outputs.iter_mut().filter_map(Output::image_options_mut).peekable();
    if images.peek().is_none() {
        let message = "--annotation is about images, and no output is one".to_owned();
        return Err(CliError::usage(message, "leave it out, or add an output: -o type=image"));
    }
    images.for_each(|image| image.annotations.extend(noted));
    Ok(())
}
