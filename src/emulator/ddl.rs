//! Columns of a table as Delta DDL, `id BIGINT NOT NULL, name STRING`: text to schema and back.

use delta_kernel::schema::{
    ArrayType, DataType, DecimalType, MapType, MetadataValue, PrimitiveType, StructField, StructType,
};

use super::sql::{Change, Privilege, Statement};

/// Types deeper than this are refused; the service's own descriptors end there.
const DEPTH_MAX: usize = 100;

/// What is wrong with the columns, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("columns: at position {position}, {}: expected {expected}", found(word))]
pub struct DdlError {
    /// Which character, the first is 1.
    pub position: usize,
    /// The word that stands there; empty at the end of the text.
    pub word: String,
    /// What should stand there.
    pub expected: String,
}

fn found(word: &str) -> String {
    if word.is_empty() { "the end".to_owned() } else { format!("{word:?}") }
}

/// Reads columns, `name TYPE [NOT NULL] [COMMENT 'text'], …`.
///
/// # Errors
///
/// The error names the position and the word at which the text stops making sense.
pub(super) fn parse_columns(text: &str) -> Result<StructType, DdlError> {
    let mut parser = Parser { words: split(text)?, next: 0 };
    let fields = parser.fields(0, Style::Columns)?;
    parser.end()?;
    table_columns(fields, text)
}

fn table_columns(fields: Vec<StructField>, text: &str) -> Result<StructType, DdlError> {
    StructType::try_new(fields).map_err(|error| DdlError {
        position: 1,
        word: text.to_owned(),
        expected: format!("columns that Delta can hold ({error})"),
    })
}

/// Reads a statement: the name of its table, and what it does to it.
///
/// # Errors
///
/// The error names the position and the word at which the text stops making sense.
pub(super) fn parse_statement(text: &str) -> Result<(String, Statement), DdlError> {
    let mut parser = Parser { words: split(text)?, next: 0 };
    let statement = parser.statement(text)?;
    parser.sign(';');
    parser.end()?;
    Ok(statement)
}

/// The columns as DDL, in the words that [`parse_columns`] reads.
pub(super) fn columns_text(schema: &StructType) -> String {
    let columns: Vec<String> = schema
        .fields()
        .map(|field| format!("{} {}{}", field.name, type_text(&field.data_type), constraint(field)))
        .collect();
    columns.join(", ")
}

fn constraint(field: &StructField) -> &'static str {
    if field.nullable { "" } else { " NOT NULL" }
}

/// A type as Unity Catalog writes it: `bigint`, `decimal(10,2)`, `struct<a:int>`.
pub(super) fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Primitive(primitive) => match primitive {
            PrimitiveType::Long => "bigint".to_owned(),
            PrimitiveType::Integer => "int".to_owned(),
            PrimitiveType::Short => "smallint".to_owned(),
            PrimitiveType::Byte => "tinyint".to_owned(),
            other => other.to_string(),
        },
        DataType::Array(array) => format!("array<{}>", type_text(array.element_type())),
        DataType::Map(map) => format!("map<{},{}>", type_text(map.key_type()), type_text(map.value_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .fields()
                .map(|field| format!("{}:{}{}", field.name, type_text(&field.data_type), constraint(field)))
                .collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Variant(_) => "variant".to_owned(),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word; keywords are told from names by where they stand.
    Word(String),
    /// A name in backticks, never a keyword.
    Quoted(String),
    /// Text in quotes.
    Text(String),
    Sign(char),
}

struct Placed {
    token: Token,
    position: usize,
    word: String,
}

fn split(text: &str) -> Result<Vec<Placed>, DdlError> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let first = chars[at];
        at += 1;
        let token = if first.is_whitespace() {
            continue;
        } else if first.is_alphanumeric() || first == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            Token::Word(chars[start..at].iter().collect())
        } else if matches!(first, '`' | '\'' | '"') {
            let content = quoted(&chars, &mut at, first).ok_or_else(|| DdlError {
                position: start + 1,
                word: chars[start..].iter().collect(),
                expected: format!("a closing {first}"),
            })?;
            if first == '`' { Token::Quoted(content) } else { Token::Text(content) }
        } else {
            Token::Sign(first)
        };
        words.push(Placed { token, position: start + 1, word: chars[start..at].iter().collect() });
    }
    Ok(words)
}

/// Reads up to the closing quote; a doubled one stands for itself.
fn quoted(chars: &[char], at: &mut usize, quote: char) -> Option<String> {
    let mut content = String::new();
    loop {
        let next = *chars.get(*at)?;
        *at += 1;
        if next != quote {
            content.push(next);
        } else if chars.get(*at) == Some(&quote) {
            content.push(quote);
            *at += 1;
        } else {
            return Some(content);
        }
    }
}

/// Columns of a table end with the text, those of a STRUCT with `>` and may have a colon.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Columns,
    Struct,
}

struct Parser {
    words: Vec<Placed>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.words.get(self.next).map(|placed| &placed.token)
    }

    fn error<T>(&self, expected: impl Into<String>) -> Result<T, DdlError> {
        let end = self.words.last().map_or(1, |last| last.position + last.word.chars().count());
        let (position, word) =
            self.words.get(self.next).map_or((end, String::new()), |at| (at.position, at.word.clone()));
        Err(DdlError { position, word, expected: expected.into() })
    }

    fn sign(&mut self, sign: char) -> bool {
        let is_next = self.peek() == Some(&Token::Sign(sign));
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: char) -> Result<(), DdlError> {
        if self.sign(sign) { Ok(()) } else { self.error(format!("`{sign}`")) }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(is_next);
        is_next
    }

    fn keywords(&mut self, keywords: &[&str]) -> Result<(), DdlError> {
        for keyword in keywords {
            if !self.keyword(keyword) {
                return self.error(*keyword);
            }
        }
        Ok(())
    }

    fn statement(&mut self, text: &str) -> Result<(String, Statement), DdlError> {
        if self.keyword("ALTER") {
            self.keywords(&["TABLE"])?;
            let table = self.table_name()?;
            return Ok((table, Statement::Alter(self.alteration()?)));
        }
        if self.keyword("DROP") {
            self.keywords(&["TABLE"])?;
            return Ok((self.table_name()?, Statement::Drop));
        }
        if self.keyword("CREATE") {
            self.keywords(&["TABLE"])?;
            let table = self.table_name()?;
            self.expect('(')?;
            let columns = self.fields(0, Style::Columns)?;
            self.expect(')')?;
            return Ok((table, Statement::Create(table_columns(columns, text)?)));
        }
        let (is_granted, preposition) = if self.keyword("GRANT") {
            (true, "TO")
        } else if self.keyword("REVOKE") {
            (false, "FROM")
        } else {
            return self.error("CREATE TABLE, DROP TABLE, ALTER TABLE, GRANT or REVOKE");
        };
        let privilege = if self.keyword("SELECT") {
            Privilege::Select
        } else if self.keyword("MODIFY") {
            Privilege::Modify
        } else {
            return self.error("SELECT or MODIFY");
        };
        self.keywords(&["ON", "TABLE"])?;
        let table = self.table_name()?;
        self.keywords(&[preposition])?;
        self.name("the name of a principal")?;
        let statement = if is_granted { Statement::Grant(privilege) } else { Statement::Revoke(privilege) };
        Ok((table, statement))
    }

    fn alteration(&mut self) -> Result<Change, DdlError> {
        if self.keyword("ALTER") {
            self.keywords(&["COLUMN"])?;
            let column = self.name("the name of a column")?;
            self.keywords(&["DROP", "NOT", "NULL"])?;
            return Ok(Change::DropNotNull(column));
        }
        self.keywords(&["ADD"])?;
        if !self.keyword("COLUMNS") && !self.keyword("COLUMN") {
            return self.error("COLUMNS");
        }
        let has_parentheses = self.sign('(');
        let columns = self.fields(0, Style::Columns)?;
        if has_parentheses {
            self.expect(')')?;
        }
        Ok(Change::AddColumns(columns))
    }

    fn table_name(&mut self) -> Result<String, DdlError> {
        let mut name = self.name("the name of a table")?;
        while self.sign('.') {
            name = format!("{name}.{}", self.name("the next part of the name of a table")?);
        }
        Ok(name)
    }

    fn name(&mut self, expected: &str) -> Result<String, DdlError> {
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Quoted(name)) if !name.is_empty() => name.clone(),
            _ => return self.error(expected),
        };
        self.next += 1;
        Ok(name)
    }

    fn end(&self) -> Result<(), DdlError> {
        if self.next == self.words.len() { Ok(()) } else { self.error("`,`, NOT NULL, COMMENT or the end") }
    }

    fn fields(&mut self, depth: usize, style: Style) -> Result<Vec<StructField>, DdlError> {
        let mut fields: Vec<StructField> = Vec::new();
        loop {
            let before = self.next;
            let field = self.field(depth, style)?;
            if fields.iter().any(|other| other.name.eq_ignore_ascii_case(&field.name)) {
                self.next = before;
                return self.error("a name that no other column has");
            }
            fields.push(field);
            if !self.sign(',') {
                return Ok(fields);
            }
        }
    }

    fn field(&mut self, depth: usize, style: Style) -> Result<StructField, DdlError> {
        let name = self.name("the name of a column")?;
        if style == Style::Struct {
            self.sign(':');
        }
        let data_type = self.data_type(depth)?;
        let mut field = StructField::nullable(name, data_type);
        if self.keyword("NOT") {
            if !self.keyword("NULL") {
                return self.error("NULL");
            }
            field.nullable = false;
        }
        if self.keyword("COMMENT") {
            let Some(Token::Text(comment)) = self.peek() else {
                return self.error("a comment in quotes");
            };
            field = field.add_metadata([("comment", MetadataValue::String(comment.clone()))]);
            self.next += 1;
        }
        Ok(field)
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, DdlError> {
        let Some(Token::Word(word)) = self.peek() else {
            return self.error("a type");
        };
        let word = word.to_ascii_uppercase();
        if depth > DEPTH_MAX {
            return self.error(format!("at most {DEPTH_MAX} types inside one another"));
        }
        let simple = match word.as_str() {
            "BOOLEAN" => DataType::BOOLEAN,
            "TINYINT" | "BYTE" => DataType::BYTE,
            "SMALLINT" | "SHORT" => DataType::SHORT,
            "INT" | "INTEGER" => DataType::INTEGER,
            "BIGINT" | "LONG" => DataType::LONG,
            "FLOAT" | "REAL" => DataType::FLOAT,
            "DOUBLE" => DataType::DOUBLE,
            "STRING" => DataType::STRING,
            "BINARY" => DataType::BINARY,
            "DATE" => DataType::DATE,
            "TIMESTAMP" => DataType::TIMESTAMP,
            "TIMESTAMP_NTZ" => DataType::TIMESTAMP_NTZ,
            "DECIMAL" | "DEC" | "NUMERIC" => return self.decimal(),
            "ARRAY" | "MAP" | "STRUCT" => return self.nested(&word, depth + 1),
            "VARIANT" => return self.error("another type, this emulator cannot write VARIANT"),
            _ => return self.error("a type of Delta, such as BIGINT, STRING or DECIMAL(10,2)"),
        };
        self.next += 1;
        Ok(simple)
    }

    fn nested(&mut self, word: &str, depth: usize) -> Result<DataType, DdlError> {
        self.next += 1;
        self.expect('<')?;
        let data_type = match word {
            "ARRAY" => ArrayType::new(self.data_type(depth)?, true).into(),
            "MAP" => {
                let key = self.data_type(depth)?;
                self.expect(',')?;
                MapType::new(key, self.data_type(depth)?, true).into()
            }
            _ => {
                let before = self.next;
                let fields = self.fields(depth, Style::Struct)?;
                match StructType::try_new(fields) {
                    Ok(fields) => fields.into(),
                    Err(error) => {
                        self.next = before;
                        return self.error(format!("fields that Delta can hold ({error})"));
                    }
                }
            }
        };
        self.expect('>')?;
        Ok(data_type)
    }

    fn decimal(&mut self) -> Result<DataType, DdlError> {
        self.next += 1;
        let (mut precision, mut scale) = (10, 0);
        let before = self.next;
        if self.sign('(') {
            precision = self.number()?;
            if self.sign(',') {
                scale = self.number()?;
            }
            self.expect(')')?;
        }
        let Ok(decimal) = DecimalType::try_new(precision, scale) else {
            self.next = before + 1;
            return self.error("a precision of 1 to 38 and a scale no larger");
        };
        Ok(PrimitiveType::Decimal(decimal).into())
    }

    fn number(&mut self) -> Result<u8, DdlError> {
        if let Some(Token::Word(word)) = self.peek()
            && let Ok(number) = word.parse()
        {
            self.next += 1;
            return Ok(number);
        }
        self.error("a number of digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_its_text() {
        let text = "a boolean, b tinyint, c smallint, d int, e bigint NOT NULL, f float, g double, h string, \
                    i binary, j date, k timestamp, l timestamp_ntz, m decimal(38,18), n array<string>, \
                    o map<string,bigint>, p struct<x:int NOT NULL,y:array<struct<z:date>>>";
        assert_eq!(columns_text(&parse_columns(text).unwrap()), text);
    }

    #[test]
    fn other_words_for_the_same_types_are_understood() {
        let text = "`a b` long, b byte comment 'it''s', c short, d integer, e real, f dec(4), g numeric, s struct<x int>";
        let schema = parse_columns(text).unwrap();
        assert_eq!(
            columns_text(&schema),
            "a b bigint, b tinyint, c smallint, d int, e float, f decimal(4,0), g decimal(10,0), s struct<x:int>"
        );
        let comment = schema.field("b").unwrap().metadata.get("comment");
        assert_eq!(comment, Some(&MetadataValue::String("it's".to_owned())));
    }

    #[test]
    fn an_error_names_the_position_and_the_word() {
        for (text, position, word) in [
            ("", 1, ""),
            ("id", 3, ""),
            ("id BIGNIT", 4, "BIGNIT"),
            ("id BIGINT,", 11, ""),
            ("id BIGINT NOT", 14, ""),
            ("id BIGINT name STRING", 11, "name"),
            ("a INT, A STRING", 8, "A"),
            ("a DECIMAL(39,2)", 11, "39"),
            ("a DECIMAL(5,x)", 13, "x"),
            ("a ARRAY<INT", 12, ""),
            ("a MAP<INT>", 10, ">"),
            ("a STRUCT<>", 10, ">"),
            ("a VARIANT", 3, "VARIANT"),
            ("a INT COMMENT b", 15, "b"),
            ("a `INT", 3, "`INT"),
            ("a INT; b INT", 6, ";"),
        ] {
            let error = parse_columns(text).unwrap_err();
            assert_eq!((error.position, error.word.as_str()), (position, word), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_statement_names_its_table_and_what_becomes_of_it() {
        let statement = |text| parse_statement(text).unwrap();
        let added = |columns| {
            let columns = parse_columns(columns).unwrap().fields().cloned().collect();
            Statement::Alter(Change::AddColumns(columns))
        };
        let not_null = Statement::Alter(Change::DropNotNull("id".to_owned()));
        for (text, change) in [
            (
                "CREATE TABLE a.b.c (x INT NOT NULL)",
                Statement::Create(parse_columns("x INT NOT NULL").unwrap()),
            ),
            ("DROP TABLE a.b.c;", Statement::Drop),
            ("ALTER TABLE a.b.c ADD COLUMNS (x INT, y STRING)", added("x INT, y STRING")),
            ("alter table a.b.c add column x DECIMAL(10,2);", added("x DECIMAL(10,2)")),
            ("ALTER TABLE `a`.b.c ALTER COLUMN id DROP NOT NULL", not_null),
            ("GRANT SELECT ON TABLE a.b.c TO `someone@example.com`", Statement::Grant(Privilege::Select)),
            ("REVOKE MODIFY ON TABLE a.b.c FROM someone", Statement::Revoke(Privilege::Modify)),
        ] {
            assert_eq!(statement(text), ("a.b.c".to_owned(), change), "{text}");
        }
        for (text, word) in [
            ("TRUNCATE TABLE a.b.c", "TRUNCATE"),
            ("CREATE TABLE a.b.c", ""),
            ("ALTER TABLE a.b.c DROP COLUMN x", "DROP"),
            ("ALTER TABLE a.b.c ADD COLUMNS (x INT", ""),
            ("ALTER TABLE ADD", ""),
            ("GRANT EXECUTE ON TABLE a.b.c TO x", "EXECUTE"),
            ("REVOKE SELECT ON TABLE a.b.c FROM x y", "y"),
        ] {
            assert_eq!(parse_statement(text).unwrap_err().word, word, "{text}");
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let error = parse_columns(&format!("a {}INT", "ARRAY<".repeat(5000))).unwrap_err();
        assert!(error.expected.contains("100"), "{error}");
    }
}
