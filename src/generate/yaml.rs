//! As much YAML as the generated files need, written so that people can read it.

/// A mapping value: block text where it has lines, else a quoted scalar.
pub fn value(text: &str, indent: usize) -> String {
    if text.contains('\n') {
        let pad = " ".repeat(indent + 2);
        let lines: Vec<String> =
            text.lines().map(|l| if l.is_empty() { String::new() } else { format!("{pad}{l}") }).collect();
        return format!("|-\n{}", lines.join("\n"));
    }
    quoted(text)
}

/// A single-quoted scalar, which escapes nothing but the quote itself.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A comment, wrapped at the width of the repository.
pub fn comment(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + 2 + line.chars().count() + 1 + word.chars().count() > 118 {
            out.push_str(&format!("{pad}# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("{pad}# {line}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_quoted_and_lines_become_blocks() {
        assert_eq!(value("it's {{ 1 }}", 4), "'it''s {{ 1 }}'");
        assert_eq!(value("a\nb", 4), "|-\n      a\n      b");
    }

    #[test]
    fn comments_wrap() {
        let text = "word ".repeat(40);
        assert!(comment(&text, 4).lines().all(|l| l.len() <= 120 && l.starts_with("    # ")));
    }
}
