//! Changes to files.
//!
//! An operation of LLB is a list of actions, each over a filesystem that is an input or what an earlier action left. One of
//! ours is a chain over one filesystem with one result. So actions that follow each other, each on what the one before left and
//! nobody else uses, become one operation, and everything else several.

use std::collections::HashMap;

use base::Platform;
use bollard_buildkit_proto::pb;
use llb::{
    ChmodMode, CopyAction, CopyRules, FileAction, FileOp, Input, MkdirAction, MkfileAction, Op, Owner,
    RmAction, SymlinkAction, UserName,
};

use super::error::DefinitionError;
use super::operations::Operation;
use super::{Lowering, Value};
use crate::lower::clean;

/// Actions that are not yet an operation.
#[derive(Default)]
struct Chain {
    has_base: bool,
    inputs: Vec<Input>,
    actions: Vec<FileAction>,
    /// The slots in which owners are looked up.
    owners: HashMap<Input, u32>,
}

/// What an action left.
enum State {
    /// Actions to which others may be added.
    Open(Chain),
    /// The result of an operation.
    Closed(Input),
    /// Gone into another chain.
    Taken,
}

/// Where the filesystem of an action is.
#[derive(Clone, Copy)]
enum From {
    Input(i64),
    Action(usize),
}

impl Lowering<'_> {
    /// Changes to files, and their results.
    pub(super) fn file(
        &mut self,
        operation: &Operation<'_>,
        file: &pb::FileOp,
        platform: &Platform,
    ) -> Result<Vec<Value>, DefinitionError> {
        if file.actions.is_empty() {
            return Err(operation.invalid("it has no action"));
        }
        let uses = uses(operation, file);
        let mut states: Vec<State> = Vec::with_capacity(file.actions.len());
        for (index, action) in file.actions.iter().enumerate() {
            let mut chain = match from(operation, action.input, index)? {
                From::Action(before) if uses[before] == 1 => {
                    match std::mem::replace(&mut states[before], State::Taken) {
                        State::Open(chain) => chain,
                        State::Closed(input) => over(Some(input)),
                        State::Taken => return Err(operation.invalid("an action is used twice")),
                    }
                }
                From::Action(before) => over(Some(self.close(operation, &mut states[before], platform)?)),
                From::Input(slot) => {
                    let value = self.input(operation, slot)?;
                    over(self.filesystem(operation, value))
                }
            };
            let action = match &action.action {
                Some(pb::file_action::Action::Copy(copy)) => {
                    let source = match from(operation, action.secondary_input, index)? {
                        From::Action(before) => self.close(operation, &mut states[before], platform)?,
                        From::Input(slot) => match self.input(operation, slot)? {
                            Value::Local(input) | Value::Filesystem(input) => input,
                            Value::Scratch => self.empty(operation),
                        },
                    };
                    let slot = u32::try_from(chain.inputs.len()).unwrap_or(u32::MAX);
                    chain.inputs.push(source);
                    let owner = self.owner(operation, copy.owner.as_ref(), action.input, &mut chain)?;
                    FileAction::Copy(copied(operation, copy, slot, owner)?)
                }
                Some(pb::file_action::Action::Mkfile(file)) => FileAction::Mkfile(MkfileAction {
                    path: clean(&file.path),
                    name: String::new(),
                    mode: mode(operation, file.mode)?.unwrap_or(0o644),
                    chmod: None,
                    content: file.data.clone(),
                    owner: self.owner(operation, file.owner.as_ref(), action.input, &mut chain)?,
                    time: time(file.timestamp),
                }),
                Some(pb::file_action::Action::Mkdir(directory)) => FileAction::Mkdir(MkdirAction {
                    path: clean(&directory.path),
                    mode: mode(operation, directory.mode)?.unwrap_or(0o755),
                    owner: self.owner(operation, directory.owner.as_ref(), action.input, &mut chain)?,
                    make_parents: directory.make_parents,
                    time: time(directory.timestamp),
                }),
                Some(pb::file_action::Action::Rm(rm)) => FileAction::Rm(RmAction {
                    path: clean(&rm.path),
                    allow_missing: rm.allow_not_found,
                    allow_wildcards: rm.allow_wildcard,
                }),
                Some(pb::file_action::Action::Symlink(link)) => FileAction::Symlink(SymlinkAction {
                    path: clean(&link.newpath),
                    target: link.oldpath.clone(),
                    owner: self.owner(operation, link.owner.as_ref(), action.input, &mut chain)?,
                    time: time(link.timestamp),
                }),
                None => return Err(operation.unsupported("another kind of change to files")),
            };
            chain.actions.push(action);
            states.push(State::Open(chain));
        }
        self.results(operation, file, &mut states, platform)
    }

    /// An owner. Names are looked up in the filesystem that is changed, or in another input, which then has a slot.
    fn owner(
        &mut self,
        operation: &Operation<'_>,
        owner: Option<&pb::ChownOpt>,
        changed: i64,
        chain: &mut Chain,
    ) -> Result<Option<Owner>, DefinitionError> {
        let Some(pb::ChownOpt { user, group }) = owner else { return Ok(None) };
        let mut name = |option: &Option<pb::UserOpt>| match option
            .as_ref()
            .and_then(|option| option.user.as_ref())
        {
            None => Ok(None),
            Some(pb::user_opt::User::ById(id)) => Ok(Some(UserName::Id(*id))),
            Some(pb::user_opt::User::ByName(named)) if named.input == changed => {
                Ok(Some(UserName::Name(named.name.clone())))
            }
            Some(pb::user_opt::User::ByName(named)) => {
                let value = match from(operation, named.input, 0) {
                    Ok(From::Input(slot)) => self.input(operation, slot)?,
                    _ => {
                        let what = format!("the user {:?} of what another action leaves", named.name);
                        return Err(operation.unsupported(what));
                    }
                };
                let Some(input) = self.filesystem(operation, value) else {
                    return Err(operation.invalid(format!("there is no user {:?} in nothing", named.name)));
                };
                let slot = *chain.owners.entry(input).or_insert_with(|| {
                    chain.inputs.push(input);
                    u32::try_from(chain.inputs.len() - 1).unwrap_or(u32::MAX)
                });
                Ok(Some(UserName::NameIn { name: named.name.clone(), input: slot }))
            }
        };
        let (user, group) = (name(user)?, name(group)?);
        Ok(match (user, group) {
            (None, None) => None,
            (user, group) => Some(Owner { user: user.unwrap_or(UserName::Id(0)), group }),
        })
    }

    fn results(
        &mut self,
        operation: &Operation<'_>,
        file: &pb::FileOp,
        states: &mut [State],
        platform: &Platform,
    ) -> Result<Vec<Value>, DefinitionError> {
        let outputs = file.actions.iter().filter(|action| action.output >= 0).count();
        let mut values = vec![None; outputs];
        for (index, action) in file.actions.iter().enumerate() {
            let Ok(output) = usize::try_from(action.output) else { continue };
            let place = values.get_mut(output).filter(|place| place.is_none());
            let place = place.ok_or_else(|| {
                operation.invalid(format!("its results are not numbered from 0 to {outputs}, each once"))
            })?;
            *place = Some(Value::Filesystem(self.close(operation, &mut states[index], platform)?));
        }
        Ok(values.into_iter().flatten().collect())
    }

    /// What an action left, as the result of an operation.
    fn close(
        &mut self,
        operation: &Operation<'_>,
        state: &mut State,
        platform: &Platform,
    ) -> Result<Input, DefinitionError> {
        let input = match std::mem::replace(state, State::Taken) {
            State::Closed(input) => input,
            State::Open(Chain { has_base, inputs, actions, .. }) => {
                self.add(operation, Op::File(FileOp { has_base, actions }), platform, &inputs)
            }
            State::Taken => return Err(operation.invalid("an action is used twice")),
        };
        *state = State::Closed(input);
        Ok(input)
    }
}

/// A chain over a filesystem; `None` is an empty one.
fn over(base: Option<Input>) -> Chain {
    Chain { has_base: base.is_some(), inputs: base.into_iter().collect(), ..Chain::default() }
}

/// How often what each action leaves is used, as a result too.
fn uses(operation: &Operation<'_>, file: &pb::FileOp) -> Vec<usize> {
    let mut uses = vec![0; file.actions.len()];
    let first = operation.inputs.len();
    for action in &file.actions {
        let is_copy = matches!(action.action, Some(pb::file_action::Action::Copy(_)));
        let slots = [Some(action.input), is_copy.then_some(action.secondary_input)];
        for slot in slots.into_iter().flatten().filter_map(|slot| usize::try_from(slot).ok()) {
            if let Some(count) = slot.checked_sub(first).and_then(|index| uses.get_mut(index)) {
                *count += 1;
            }
        }
    }
    for (count, action) in uses.iter_mut().zip(&file.actions) {
        *count += usize::from(action.output >= 0);
    }
    uses
}

/// What a number of an action means: inputs come first, then earlier actions.
fn from(operation: &Operation<'_>, slot: i64, index: usize) -> Result<From, DefinitionError> {
    let inputs = operation.inputs.len();
    match usize::try_from(slot).ok().and_then(|slot| slot.checked_sub(inputs)) {
        None => Ok(From::Input(slot)),
        Some(before) if before < index => Ok(From::Action(before)),
        Some(before) => Err(operation
            .invalid(format!("action {index} uses what action {before} leaves, which is no earlier one"))),
    }
}

fn copied(
    operation: &Operation<'_>,
    copy: &pb::FileActionCopy,
    slot: u32,
    owner: Option<Owner>,
) -> Result<CopyAction, DefinitionError> {
    let given = match (copy.mode_str.as_str(), mode(operation, copy.mode)?) {
        ("", mode) => mode.map(ChmodMode::Bits),
        (text, _) => Some(match u32::from_str_radix(text, 8) {
            Ok(bits) => ChmodMode::Bits(bits & 0o7777),
            Err(_) => ChmodMode::Symbolic(text.to_owned()),
        }),
    };
    // A slash at the end says that it is a directory.
    let slash = if copy.dest.ends_with('/') && clean(&copy.dest) != "/" { "/" } else { "" };
    let rules = CopyRules {
        follow_links: copy.follow_symlink,
        allow_no_match: copy.allow_empty_wildcard,
        contents_only: copy.dir_copy_contents,
        make_parents: copy.create_dest_path,
        replace: copy.always_replace_existing_dest_paths,
        includes: copy.include_patterns.clone(),
        required: copy.required_paths.clone(),
        time: time(copy.timestamp),
    };
    Ok(CopyAction {
        allow_wildcards: copy.allow_wildcard,
        owner,
        mode: given,
        unpack_archives: copy.attempt_unpack_docker_compatibility,
        excludes: copy.exclude_patterns.clone(),
        rules,
        ..CopyAction::new(slot, vec![copy.src.clone()], format!("{}{slash}", clean(&copy.dest)))
    })
}

/// Permission bits; -1 are none.
fn mode(operation: &Operation<'_>, mode: i32) -> Result<Option<u32>, DefinitionError> {
    match u32::try_from(mode) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        Ok(mode) => Err(operation.invalid(format!("{mode:o} are no permission bits"))),
        Err(_) => Ok(None),
    }
}

/// Nanoseconds since 1970; -1 is no time.
fn time(timestamp: i64) -> Option<i64> {
    (timestamp >= 0).then_some(timestamp)
}
