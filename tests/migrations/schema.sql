-- pgTAP: what the finished schema promises. test_schema.py runs it on a database with all migrations, with psql.
CREATE EXTENSION pgtap;
SELECT no_plan();

SELECT tables_are('public', ARRAY['users', 'rooms', 'room_users', 'messages']);
SELECT columns_are('public', 'users', ARRAY['id', 'email', 'password_hash', 'username', 'avatar_url', 'created_at', 'updated_at']);
SELECT columns_are('public', 'rooms', ARRAY['id', 'name', 'description', 'is_private', 'created_by', 'last_seq', 'created_at', 'updated_at']);
SELECT columns_are('public', 'room_users', ARRAY['room_id', 'user_id', 'role', 'last_read_seq', 'joined_at']);
SELECT columns_are('public', 'messages', ARRAY['id', 'room_id', 'seq', 'user_id', 'content', 'created_at', 'edited_at', 'deleted_at']);

-- The seed's names and lengths.
SELECT col_type_is('users', 'id', 'uuid');
SELECT col_type_is('users', 'email', 'character varying(255)');
SELECT col_type_is('users', 'password_hash', 'character varying(255)');
SELECT col_type_is('users', 'username', 'character varying(50)');
SELECT col_type_is('users', 'avatar_url', 'character varying(500)');
SELECT col_is_unique('users', 'email');
SELECT col_is_unique('users', 'username');
SELECT is_empty(
    $$SELECT table_name, column_name FROM information_schema.columns
      WHERE table_schema = 'public' AND data_type LIKE 'timestamp%' AND data_type NOT LIKE '%with time zone'$$,
    'every time has a time zone'
);

-- One index for each purpose; the unique constraints are the seed's indexes.
SELECT indexes_are('users', ARRAY['users_pkey', 'idx_users_email', 'idx_users_username', 'idx_users_email_lower', 'idx_users_username_lower']);
SELECT indexes_are('rooms', ARRAY['rooms_pkey', 'idx_rooms_created_by']);
SELECT indexes_are('room_users', ARRAY['room_users_pkey', 'idx_room_users_user_id']);
SELECT indexes_are('messages', ARRAY['messages_pkey', 'messages_room_id_seq_key', 'idx_messages_user_id']);
SELECT is_empty(
    $$SELECT conrelid::regclass, conname FROM pg_constraint
      WHERE contype = 'f' AND NOT EXISTS (
          SELECT FROM pg_index WHERE indrelid = conrelid AND (indkey::int2[])[0:cardinality(conkey) - 1] = conkey AND indpred IS NULL
      )$$,
    'every foreign key has an index that leads with it'
);
SELECT is_empty(
    $$SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' AND confdeltype NOT IN ('c', 'n')$$,
    'every foreign key says what a deletion does'
);

INSERT INTO users (email, password_hash, username) VALUES ('ann@example.net', 'hash', 'ann'), ('bob@example.net', 'hash', 'bob');
INSERT INTO rooms (name, created_by) SELECT 'lobby', id FROM users WHERE username = 'ann';
INSERT INTO room_users (room_id, user_id) SELECT rooms.id, users.id FROM rooms, users;

SELECT throws_ok(
    $$INSERT INTO users (email, password_hash, username) VALUES ('Ann@Example.net', 'hash', 'eve')$$,
    '23505', NULL, 'an address differs by more than capitals'
);
SELECT throws_ok(
    $$INSERT INTO users (email, password_hash, username) VALUES ('eve@example.net', 'hash', 'ANN')$$,
    '23505', NULL, 'a name differs by more than capitals'
);

-- Numbers.
SELECT lives_ok($$INSERT INTO messages (room_id, user_id, content) SELECT rooms.id, users.id, 'hello' FROM rooms, users$$);
SELECT results_eq('SELECT seq FROM messages ORDER BY seq', ARRAY[1, 2]::bigint[], 'the room numbers its messages');
SELECT throws_ok(
    $$INSERT INTO messages (room_id, seq, content) SELECT id, 3, 'hello' FROM rooms$$,
    '23514', NULL, 'a number that was not reserved is refused'
);
SELECT lives_ok(
    $$WITH room AS (UPDATE rooms SET last_seq = last_seq + 2 RETURNING id, last_seq)
      INSERT INTO messages (room_id, seq, content) SELECT id, last_seq - n, 'hello' FROM room, generate_series(0, 1) AS n$$,
    'reserved numbers are taken'
);
SELECT results_eq('SELECT last_seq FROM rooms', ARRAY[4]::bigint[], 'and the room goes on behind them');
SELECT throws_ok(
    $$INSERT INTO messages (room_id, content) VALUES (gen_random_uuid(), 'hello')$$,
    '23503', NULL, 'a room that is not there is named as such'
);
SELECT throws_ok(
    $$INSERT INTO messages (room_id, content) SELECT id, '' FROM rooms$$,
    '23514', NULL, 'an empty message is refused'
);
SELECT throws_ok(
    $$INSERT INTO messages (room_id, content) SELECT id, repeat('ä', 10001) FROM rooms$$,
    '23514', NULL, 'a message of more than 10,000 characters is refused'
);
SELECT lives_ok($$INSERT INTO messages (room_id, content) SELECT id, repeat('ä', 10000) FROM rooms$$, '10,000 are not');
SELECT is_empty(
    $$SELECT created_at, updated_at FROM rooms WHERE updated_at <> created_at$$,
    'a bump of the counter is no edit'
);
SELECT lives_ok($$UPDATE rooms SET name = 'hall'$$);
SELECT isnt_empty($$SELECT FROM rooms WHERE updated_at > created_at$$, 'a new name is one');

-- Ids: UUIDv7.
SELECT is_empty(
    $$SELECT id FROM messages WHERE id::text !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'$$,
    'messages have ids of version 7 and variant 10'
);
SELECT is_empty(
    $$SELECT FROM (
          SELECT clock_timestamp() AS earlier, uuid_v7() AS id, clock_timestamp() AS later FROM generate_series(1, 1000) OFFSET 0
      ) AS made
      CROSS JOIN LATERAL (SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint AS ms) AS time
      WHERE ms NOT BETWEEN floor(extract(epoch FROM earlier) * 1000) AND floor(extract(epoch FROM later) * 1000)$$,
    'an id begins with the millisecond in which it was made'
);
SELECT is(count(DISTINCT uuid_v7()), 10000::bigint, 'ids differ') FROM generate_series(1, 10000);
SELECT volatility_is('uuid_v7', 'volatile');
SELECT is(proparallel, 's', 'uuid_v7 is parallel safe') FROM pg_proc WHERE proname = 'uuid_v7';

-- Deletions.
DELETE FROM users WHERE username = 'ann';
SELECT results_eq($$SELECT count(*) FROM messages$$, ARRAY[5]::bigint[], 'a deleted author leaves the messages');
SELECT results_eq($$SELECT count(user_id) FROM messages$$, ARRAY[1]::bigint[], 'without an author');
SELECT results_eq($$SELECT count(*) FROM room_users$$, ARRAY[1]::bigint[], 'and is no member any more');
DELETE FROM rooms;
SELECT is_empty($$SELECT FROM messages$$, 'a deleted room takes its messages along');
SELECT is_empty($$SELECT FROM room_users$$, 'and its memberships');
SELECT * FROM finish();
