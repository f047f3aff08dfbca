-- The people who chat: the root that rooms, memberships and messages refer to.
-- Lock: none that waits; the table is new. Undone by dropping it, with every user in it.
-- The lengths are part of the application's contract.
-- squawk-ignore-file prefer-text-field

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';

CREATE FUNCTION set_updated_at() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

-- The unique constraints carry the names of the seed's indexes: each is the index, a second one beside it
-- would cost space and WAL on every insert.
CREATE TABLE users (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL,
    password_hash varchar(255) NOT NULL,
    username varchar(50) NOT NULL,
    avatar_url varchar(500),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT idx_users_email UNIQUE (email),
    CONSTRAINT idx_users_username UNIQUE (username)
);

-- A@x.com is a@x.com.
CREATE UNIQUE INDEX idx_users_email_lower ON users (lower(email));
CREATE UNIQUE INDEX idx_users_username_lower ON users (lower(username));

CREATE TRIGGER users_set_updated_at
BEFORE UPDATE ON users
FOR EACH ROW
WHEN (
    (old.email, old.password_hash, old.username, old.avatar_url)
    IS DISTINCT FROM (new.email, new.password_hash, new.username, new.avatar_url)
)
EXECUTE FUNCTION set_updated_at();
