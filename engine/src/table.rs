//! Tables as Docker prints them: a header, columns padded to the widest cell, three blanks between, and none narrower
//! than ten characters. What BuildKit says of a Dockerfile has columns as narrow as what is in them.

/// Blanks after the widest cell of a column.
const PADDING: usize = 3;
/// The least width of a column with its blanks.
const NARROWEST: usize = 10;

/// Draws a table.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    align(&lines(header, rows))
}

/// Draws a table whose columns may be as narrow as what is in them.
pub fn render_narrow(header: &[&str], rows: &[Vec<String>]) -> String {
    align_widely(&lines(header, rows), 0)
}

fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let header = header.iter().map(|cell| (*cell).to_owned()).collect();
    [&[header], rows].concat()
}

/// Puts the cells of all lines below one another. What is last in a line has no blanks after it.
pub fn align(lines: &[Vec<String>]) -> String {
    align_widely(lines, NARROWEST)
}

/// The same, with columns that are at least so wide.
pub fn align_widely(lines: &[Vec<String>], narrowest: usize) -> String {
    let columns = lines.iter().map(|line| line.len().saturating_sub(1)).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter(|line| column + 1 < line.len()).map(|line| &line[column]);
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        (widest + PADDING).max(narrowest)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    lines.iter().map(|line| aligned(line, &widths)).collect()
}

fn aligned(line: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (index, cell) in line.iter().enumerate() {
        text.push_str(cell);
        if index + 1 < line.len() {
            text.extend(std::iter::repeat_n(' ', widths[index].saturating_sub(cell.chars().count())));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_are_not_narrow() {
        let rows = vec![vec!["a".to_owned(), "b".to_owned()], vec!["longer one".to_owned(), "c".to_owned()]];
        assert_eq!(render(&["X", "Y"], &rows), "X            Y\na            b\nlonger one   c\n");
        assert_eq!(render(&["X", "Y"], &rows[..1]), "X         Y\na         b\n");
        assert_eq!(render_narrow(&["X", "Y"], &rows[..1]), "X   Y\na   b\n");
    }
}
