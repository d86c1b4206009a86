//! ADD: COPY from the build context that unpacks archives.

use parser::ast::{Add, CopySource, Instruction};
use parser::span::Span;

use super::base_image::Content;
use super::copy::{Part, Request, push_path};
use super::{CONTEXT, Lowering, StageState};
use crate::error::LowerError;

impl Lowering<'_> {
    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), LowerError> {
        let unsupported =
            [(add.keep_git_dir.is_some(), "--keep-git-dir"), (add.checksum.is_some(), "--checksum")];
        refuse(instruction.span, &unsupported)?;
        let request = Request {
            keyword: "ADD",
            sources: &add.sources,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            excludes: &add.excludes,
            unpack_archives: add.unpack.unwrap_or(true),
        };
        let target = self.target(state, &request)?;
        let (mut parts, mut shown) = (Vec::new(), Vec::new());
        for source in request.sources {
            match source {
                CopySource::Path(written) => {
                    let path = self.expander.word(written, &state.environment)?;
                    if is_remote(&path) {
                        return Err(LowerError::unsupported(
                            written.span,
                            "ADD of a URL or a git repository",
                        ));
                    }
                    self.check_ignored(&request, &path, written.span);
                    shown.push(path.clone());
                    let context = Content::Local(CONTEXT.to_owned());
                    push_path(&mut parts, context, path, request.unpack_archives);
                }
                CopySource::Heredoc(heredoc) => {
                    shown.push(format!("<<{}", heredoc.name));
                    parts.push(Part::File(self.heredoc_file(state, heredoc, &target)?));
                }
            }
        }
        self.file_step(state, instruction, &request, target, parts, shown)
    }
}

fn refuse(span: Span, flags: &[(bool, &str)]) -> Result<(), LowerError> {
    match flags.iter().find(|(used, _)| *used) {
        Some((_, flag)) => Err(LowerError::unsupported(span, &format!("ADD {flag}"))),
        None => Ok(()),
    }
}

fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|prefix| text.starts_with(prefix))
}
