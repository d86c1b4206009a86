//! ADD: COPY from the build context that unpacks archives, and from elsewhere.

use base::git_url::without_password;
use parser::ast::{Add, CopySource, Instruction};

use super::base_image::Content;
use super::copy::{Part, Request, push_path};
use super::remote::Remote;
use super::{CONTEXT, Lowering, StageState};
use crate::error::LowerError;

impl Lowering<'_> {
    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), LowerError> {
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
                    if let Some(Remote { from, path: found, unpack_archives }) =
                        self.remote(state, add, written, &path)?
                    {
                        shown.push(without_password(&path));
                        push_path(&mut parts, Content::Filesystem(from), found, unpack_archives);
                        continue;
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
