//! The terminal browser of `lap image explore`: layers on the left, what the chosen one does on the right.
//!
//! What is shown follows from what was typed ([`Browser::press`], [`Browser::lines`]); only [`run`] touches the terminal.

use std::collections::BTreeSet;

use console::{Key, Term, truncate_str};
use engine::explore::{Effect, Exploration, ExploredFile, FileKind};

use crate::error::CliError;
use crate::terminal::printable;
use crate::units;

/// Lines that are neither layers nor files.
const FRAME: usize = 4;

/// Walks through layers until `q` is typed.
pub(super) fn run(exploration: &Exploration) -> Result<(), CliError> {
    let terminal = Term::stdout();
    let mut browser = Browser::new(exploration);
    let shown = show(&terminal, &mut browser);
    // However it ended, the terminal is as it was.
    let restored = terminal.show_cursor().and_then(|()| terminal.clear_screen());
    shown.and(restored).map_err(|error| CliError::failed(format!("cannot use the terminal: {error}")))
}

fn show(terminal: &Term, browser: &mut Browser<'_>) -> std::io::Result<()> {
    terminal.hide_cursor()?;
    loop {
        let (height, width) = terminal.size();
        let lines = browser.lines(usize::from(width), usize::from(height));
        terminal.clear_screen()?;
        terminal.write_str(&lines.join("\r\n"))?;
        match terminal.read_key() {
            Ok(key) if browser.press(&key) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// What is looked at.
struct Browser<'a> {
    exploration: &'a Exploration,
    layer: usize,
    /// The file below the cursor, among those that are shown; `None` while layers are chosen.
    file: Option<usize>,
    /// Directories that are not folded.
    open: BTreeSet<String>,
}

impl<'a> Browser<'a> {
    fn new(exploration: &'a Exploration) -> Self {
        Self { exploration, layer: 0, file: None, open: BTreeSet::new() }
    }

    /// Does what a key asks for. `false` is to stop.
    fn press(&mut self, key: &Key) -> bool {
        match key {
            Key::Char('q') | Key::Escape | Key::CtrlC => return false,
            Key::ArrowUp | Key::Char('k') => self.step(-1),
            Key::ArrowDown | Key::Char('j') => self.step(1),
            Key::ArrowRight | Key::Tab | Key::Char('l') => self.enter(true),
            Key::Enter => self.enter(false),
            Key::ArrowLeft | Key::Char('h') => self.leave(),
            _ => {}
        }
        true
    }

    fn step(&mut self, by: isize) {
        let count = self.shown().len();
        match &mut self.file {
            Some(file) => *file = moved(*file, by, count),
            None => self.layer = moved(self.layer, by, self.exploration.layers.len()),
        }
    }

    /// Goes to the files, or unfolds a directory; with `stay` one that is unfolded stays so.
    fn enter(&mut self, stay: bool) {
        match self.file {
            None => self.file = (!self.shown().is_empty()).then_some(0),
            Some(at) => {
                let Some(path) = self.shown().get(at).map(|file| file.path.clone()) else { return };
                if !self.open.insert(path.clone()) && !stay {
                    self.open.remove(&path);
                }
            }
        }
    }

    /// Folds the directory below the cursor, or goes back to the layers.
    fn leave(&mut self) {
        let path = self.file.and_then(|at| self.shown().get(at).map(|file| file.path.clone()));
        if !path.is_some_and(|path| self.open.remove(&path)) {
            self.file = None;
        }
    }

    /// The files of the layer that no folded directory hides.
    fn shown(&self) -> Vec<&'a ExploredFile> {
        let Some(layer) = self.exploration.layers.get(self.layer) else { return Vec::new() };
        let known: BTreeSet<&str> = layer.files.iter().map(|file| file.path.as_str()).collect();
        let visible = |file: &&ExploredFile| {
            let mut above = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            above.all(|directory| !known.contains(directory) || self.open.contains(directory))
        };
        layer.files.iter().filter(visible).collect()
    }

    /// The screen, line by line.
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let left = (width / 2).clamp(10, 60);
        let rows = height.saturating_sub(FRAME).max(1);
        let (bytes, wasted) = (self.exploration.bytes, self.exploration.wasted_bytes());
        let head = format!("{} in layers, {} wasted", units::bytes(bytes), units::bytes(wasted));
        let mut lines = vec![head, String::new()];
        let layers = window(&self.layer_lines(), Some(self.layer), rows);
        let files = window(&self.file_lines(), self.file, rows);
        for row in 0..rows {
            let cell = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
            let layer = truncate_str(&cell(&layers), left, "…").into_owned();
            let padding = " ".repeat(left.saturating_sub(console::measure_text_width(&layer)));
            lines.push(format!("{layer}{padding} │ {}", cell(&files)));
        }
        lines.push("arrows: move   enter: fold   left: layers   q: quit".to_owned());
        lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
    }

    fn layer_lines(&self) -> Vec<String> {
        let line = |(index, layer): (usize, &engine::explore::ExploredLayer)| {
            let mark = mark(index == self.layer, self.file.is_none());
            let size = units::bytes(layer.bytes);
            printable(&format!("{mark}{size:>8}  {}", layer.created_by.replace(['\t', '\n'], " ")))
        };
        self.exploration.layers.iter().enumerate().map(line).collect()
    }

    fn file_lines(&self) -> Vec<String> {
        let line = |(index, file): (usize, &&ExploredFile)| {
            let mark = mark(self.file == Some(index), true);
            let sign = match file.effect {
                Effect::Added => '+',
                Effect::Overwritten => '~',
                Effect::Attributes => 'm',
                Effect::Deleted => '-',
            };
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let indent = "  ".repeat(file.path.matches('/').count());
            let slash = if file.kind == FileKind::Directory { "/" } else { "" };
            let size = units::bytes(file.bytes);
            printable(&format!("{mark}{sign} {:04o} {size:>8}  {indent}{name}{slash}", file.mode))
                .replace('\n', "?")
        };
        self.shown().iter().enumerate().map(line).collect()
    }
}

fn mark(chosen: bool, active: bool) -> &'static str {
    match (chosen, active) {
        (true, true) => "> ",
        (true, false) => "* ",
        (false, _) => "  ",
    }
}

fn moved(from: usize, by: isize, count: usize) -> usize {
    from.saturating_add_signed(by).min(count.saturating_sub(1))
}

/// As many lines as there is room for, with the chosen one among them.
fn window(lines: &[String], chosen: Option<usize>, rows: usize) -> Vec<String> {
    let first = chosen.unwrap_or(0).saturating_sub(rows.saturating_sub(1));
    lines.iter().skip(first).take(rows).cloned().collect()
}

#[cfg(test)]
mod tests {
    use engine::explore::{LayerChange, LayerFile, LayerInput, analyse};

    use super::*;

    fn exploration() -> Exploration {
        let file = |kind, bytes| LayerFile { kind, bytes, mode: 0o644, same_content: false };
        let put = |path: &str, kind, bytes| LayerChange::Put(path.to_owned(), file(kind, bytes));
        let layer =
            |by: &str, changes| LayerInput { created_by: by.to_owned(), diff_id: String::new(), changes };
        analyse(vec![
            layer("COPY one", vec![put("etc", FileKind::Directory, 0), put("etc/a", FileKind::File, 1000)]),
            layer("RUN rm", vec![LayerChange::Delete("etc/a".to_owned())]),
        ])
    }

    fn screen(browser: &Browser<'_>) -> String {
        browser.lines(100, 12).join("\n")
    }

    #[test]
    fn keys_walk_through_layers_and_directories() {
        let exploration = exploration();
        let mut browser = Browser::new(&exploration);
        assert!(screen(&browser).contains("1kB in layers, 1kB wasted"));
        assert!(screen(&browser).contains("> ") && !screen(&browser).contains("  a"), "{}", screen(&browser));
        assert!(browser.press(&Key::ArrowRight) && browser.press(&Key::Enter));
        assert!(screen(&browser).contains("+ 0644      1kB    a"), "{}", screen(&browser));
        assert!(browser.press(&Key::ArrowDown) && browser.press(&Key::ArrowLeft));
        assert!(browser.press(&Key::ArrowDown) && browser.press(&Key::ArrowDown));
        assert!(screen(&browser).contains("- 0644      1kB    a"), "{}", screen(&browser));
        assert!(!browser.press(&Key::Char('q')));
    }

    #[test]
    fn no_screen_is_too_small_and_no_key_too_much() {
        let exploration = exploration();
        let empty = Exploration::default();
        for exploration in [&exploration, &empty] {
            let mut browser = Browser::new(exploration);
            let keys = [Key::ArrowDown, Key::Enter, Key::ArrowUp, Key::ArrowRight, Key::ArrowLeft, Key::Del];
            for key in keys.iter().cycle().take(60) {
                browser.press(key);
                browser.lines(0, 0);
                browser.lines(5, 3);
            }
        }
    }
}
