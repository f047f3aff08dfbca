-- Post a message: the trigger takes the room's next number under the room's lock.
\set room random_zipfian(1, :rooms, :skew)
\set user random(1, :users)
\set length random_exponential(8, 240, 3)
INSERT INTO messages (room_id, user_id, content)
VALUES (
    md5('room ' || :room)::uuid, md5('user ' || :user)::uuid,
    left('so we meet at the station tomorrow, and who brings coffee, or maybe tea? yes, I read your last message twice: the deploy is green again, thanks everyone; then let us move the review to the afternoon, when the other team has finished its own release.', :length)
)
RETURNING id, seq, created_at;
