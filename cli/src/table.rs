//! Tables as Docker prints them: a header, columns padded to the widest cell, three blanks between.

/// Draws a table.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines = std::iter::once(&header).chain(rows).map(|row| line(row, &widths));
    lines.collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let last = index + 1 == row.len();
        text.push_str(cell);
        if !last {
            text.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "b".to_owned()], vec!["longer".to_owned(), "c".to_owned()]];
        assert_eq!(render(&["X", "Y"], &rows), "X        Y\na        b\nlonger   c\n");
    }
}
