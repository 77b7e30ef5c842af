// SPDX-License-Identifier: Apache-2.0
// The migrations: SQL that takes a store from each version to the next. A release's migration is
// never changed afterwards; what is to be otherwise is the next one's work.
#pragma once
#include <string_view>

namespace aether::journal::postgres {

/// All columns that are compared are bytes to the database (COLLATE "C"), whatever its language.
inline constexpr std::string_view kTables = R"(
CREATE TABLE aether.event(
  position bigint PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL,
  mark smallint NOT NULL,              -- 0 point, 1 open, 2 close
  span text COLLATE "C",
  line text COLLATE "C" NOT NULL,      -- the event: what is hashed, proved and exported
  leaf bytea NOT NULL,                 -- SHA-256(0x00 || line)
  UNIQUE(stream, sequence)
);
-- The span law. An effect is a span, and so its intent is appended once, whoever appends it.
CREATE UNIQUE INDEX event_span ON aether.event(stream, span, mark) WHERE mark > 0;
CREATE TABLE aether.blob(hash bytea PRIMARY KEY, salt bytea, content bytea);
CREATE TABLE aether.checkpoint(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text COLLATE "C" NOT NULL
);
-- Whoever holds its one row gives the next positions. A process has it for one statement only.
CREATE TABLE aether.head(
  one boolean PRIMARY KEY DEFAULT true CHECK(one), position bigint NOT NULL
);
INSERT INTO aether.head(position) VALUES(0);
-- Who appends: its last group, and the position before each of its last ones. What was sent twice,
-- because the first answer was lost, is recognised by it.
CREATE TABLE aether.writer(
  id bytea PRIMARY KEY, last bigint NOT NULL, bases bigint[] NOT NULL,
  seen timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
-- What follows could be made again from the events.
CREATE TABLE aether.stream(
  name text COLLATE "C" PRIMARY KEY,
  last bigint NOT NULL, fence bigint NOT NULL, head bigint NOT NULL
) WITH (fillfactor = 80);
CREATE TABLE aether.taken(key text COLLATE "C" PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE aether.node(
  level bigint, number bigint, hash bytea NOT NULL, PRIMARY KEY(level, number)
);
CREATE TABLE aether.record(
  view text COLLATE "C", key bytea, value bytea NOT NULL, PRIMARY KEY(view, key)
) WITH (fillfactor = 80);
-- Who works on what, and until when it is believed to live. No event, and no truth.
CREATE TABLE aether.claim(
  key bytea PRIMARY KEY, holder text COLLATE "C" NOT NULL, until timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX claim_holder ON aether.claim(holder);
)";

/// Appends one group of batches, whole or not at all. Gives the position before its first event;
/// -1: something in it is refused, and nothing was changed; -2: it is not the writer's next group.
///
/// The head's row is locked first, so that what is compared below stays as it is until the commit.
/// Everything goes in one statement: a process that is stopped in the middle holds nobody up.
///
/// The subqueries with LIMIT are looked up by an index once a row, whatever the planner believes of
/// the sizes of tables; as joins they may become a reading of the whole index for each group.
inline constexpr std::string_view kAppend = R"(
CREATE OR REPLACE FUNCTION aether.append(
  writer_id bytea, number bigint, ahead bigint,
  s_name text[], s_expected bigint[], s_held bigint[], s_raised bigint[], s_count bigint[],
  s_last bigint[],
  e_stream text[], e_ordinal bigint[], e_mark bigint[], e_span text[], e_raised bigint[],
  e_before text[], e_middle text[], e_after text[],
  c_stream text[], c_span text[],
  k_key text[], k_event bigint[],
  b_named bytea[], b_hash bytea[], b_salt bytea[], b_content bytea[],
  r_view text[], r_key bytea[], r_value bytea[],
  d_view text[], d_key bytea[],
  dropped text[], erased bytea[], notes text[], told text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  base bigint;
  mine record;
  count bigint := cardinality(e_before);
BEGIN
  SELECT h.position INTO base FROM aether.head h FOR UPDATE;
  SELECT w.last, w.bases INTO mine FROM aether.writer w WHERE w.id = writer_id;
  IF mine.last IS DISTINCT FROM number - 1 THEN
    IF mine.last >= number AND mine.last < number + 16 THEN
      RETURN mine.bases[1 + number % 16];
    END IF;
    RETURN -2;
  END IF;
  IF ahead > base
    OR EXISTS(
      SELECT FROM unnest(s_name, s_expected, s_held, s_raised) c(name, expected, held, raised)
      LEFT JOIN LATERAL (
        SELECT t.last, t.fence FROM aether.stream t WHERE t.name = c.name LIMIT 1) s ON true
      WHERE c.expected <> coalesce(s.last, 0) OR c.held <> coalesce(s.fence, 0)
        OR c.raised <= coalesce(s.fence, 0))
    OR EXISTS(
      SELECT FROM unnest(e_stream, e_span, e_mark) e(stream, span, mark)
      WHERE e.mark > 0 AND (
        SELECT f.mark FROM aether.event f WHERE f.stream = e.stream AND f.span = e.span
          AND f.mark = e.mark AND f.mark > 0 LIMIT 1) IS NOT NULL)
    OR EXISTS(
      SELECT FROM unnest(c_stream, c_span) c(stream, span)
      WHERE (
        SELECT f.mark FROM aether.event f WHERE f.stream = c.stream AND f.span = c.span
          AND f.mark = 1 AND f.mark > 0 LIMIT 1) IS NULL)
    OR EXISTS(
      SELECT FROM unnest(k_key) k(key)
      WHERE (SELECT t.key FROM aether.taken t WHERE t.key = k.key LIMIT 1) IS NOT NULL)
    OR EXISTS(
      SELECT FROM unnest(b_named) n(hash)
      WHERE (SELECT b.hash FROM aether.blob b WHERE b.hash = n.hash LIMIT 1) IS NULL)
  THEN
    RETURN -1;
  END IF;
  IF cardinality(dropped) > 0 THEN
    DELETE FROM aether.record r USING unnest(dropped) d(view) WHERE r.view = d.view;
  END IF;
  WITH lines AS (
    INSERT INTO aether.event(position, stream, sequence, mark, span, line, leaf)
    SELECT l.position, l.stream, l.sequence, l.mark, l.span, l.line,
      sha256('\x00'::bytea || convert_to(l.line, 'UTF8'))
    FROM (SELECT base + e.at AS position, e.stream, coalesce(s.last, 0) + e.ordinal AS sequence,
        e.mark, nullif(e.span, '') AS span,
        e.before || coalesce(e.raised, s.fence, 0) || e.middle || (base + e.at) ||
          ',"sequence":' || (coalesce(s.last, 0) + e.ordinal) || e.after AS line
      FROM unnest(e_stream, e_ordinal, e_mark, e_span, e_raised, e_before, e_middle, e_after)
        WITH ORDINALITY e(stream, ordinal, mark, span, raised, before, middle, after, at)
      LEFT JOIN LATERAL (
        SELECT t.last, t.fence FROM aether.stream t WHERE t.name = e.stream LIMIT 1) s ON true
      OFFSET 0) l
  ), streams AS (
    INSERT INTO aether.stream(name, last, fence, head)
    SELECT c.name, c.count, coalesce(c.raised, 0), base + c.at
    FROM unnest(s_name, s_raised, s_count, s_last) c(name, raised, count, at) WHERE c.count > 0
    ON CONFLICT (name) DO UPDATE SET last = stream.last + excluded.last,
      fence = greatest(stream.fence, excluded.fence), head = excluded.head
  ), keys AS (
    INSERT INTO aether.taken(key, position)
    SELECT k.key, base + k.event FROM unnest(k_key, k_event) k(key, event)
  ), blobs AS (
    INSERT INTO aether.blob(hash, salt, content)
    SELECT * FROM unnest(b_hash, b_salt, b_content) ON CONFLICT DO NOTHING
  ), rows AS (
    INSERT INTO aether.record(view, key, value) SELECT * FROM unnest(r_view, r_key, r_value)
    ON CONFLICT (view, key) DO UPDATE SET value = excluded.value
  ), me AS (
    UPDATE aether.writer w SET last = number, bases[1 + number % 16] = base, seen = now()
    WHERE w.id = writer_id
  )
  UPDATE aether.head h SET position = base + count WHERE h.one;
  FOR at IN 1 .. cardinality(d_view) LOOP
    DELETE FROM aether.record r WHERE r.view = d_view[at] AND r.key = d_key[at];
  END LOOP;
  IF cardinality(erased) > 0 THEN
    UPDATE aether.blob b SET salt = NULL, content = NULL FROM unnest(erased) x(hash)
    WHERE b.hash = x.hash;
  END IF;
  IF cardinality(notes) > 0 THEN
    INSERT INTO aether.checkpoint(note) SELECT * FROM unnest(notes);
  END IF;
  IF cardinality(told) > 0 THEN
    PERFORM pg_notify('aether', t.name) FROM unnest(told) t(name);
  END IF;
  RETURN base;
END $$;
)";

struct Migration {
  std::string_view tables;
  std::string_view functions;
};
/// The n-th takes a store of version n to n + 1.
inline constexpr Migration kMigrations[] = {{.tables = kTables, .functions = kAppend}};

}  // namespace aether::journal::postgres
