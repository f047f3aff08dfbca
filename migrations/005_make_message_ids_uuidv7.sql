-- Message ids that grow with time, so that the primary key is written at its end: UUIDv7 (RFC 9562, 5.7).
-- Within a millisecond their order is by chance; the order of messages is seq (004).
-- A name of our own: PostgreSQL 18's uuidv7() would hide one beside it, and a rollback would meet it.
-- Lock: ACCESS EXCLUSIVE on messages, for the moment of a change of the catalogue; rows stay as they are.
-- Undone by the old default; ids that were given stay, as they are valid either way.
-- depends: 004_create_messages_table

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

-- A random UUIDv4 whose first 48 bits become the milliseconds since 1970; bits 52 and 53 make version 4 into 7.
CREATE FUNCTION uuid_v7() RETURNS uuid
LANGUAGE sql
VOLATILE
PARALLEL SAFE
AS $$
    SELECT encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid
$$;

ALTER TABLE messages ALTER COLUMN id SET DEFAULT uuid_v7();
