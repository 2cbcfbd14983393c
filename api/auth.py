"""Who may use the API: HTTP Basic against the users in the database.

A user name has 1 to 80 printable characters and no colon (HTTP Basic ends it there), a password 6 to 200 printable
characters. Passwords are stored as scrypt, and are never logged.
"""

import hmac
import logging
import secrets
from collections import OrderedDict
from threading import Lock

from flask import Flask, current_app, request
from flask_httpauth import HTTPBasicAuth
from sqlalchemy import bindparam, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from werkzeug.exceptions import TooManyRequests
from werkzeug.security import check_password_hash, generate_password_hash

from api.throttle import PasswordTries, source
from models import User, db, unusable

PASSWORD_LENGTHS = range(6, 201)  # characters
NOBODYS_HASH = f"scrypt:32768:8:1$nobody${'0' * 128}"  # costs what a user's hash costs; no password is known to give it

log = logging.getLogger(__name__)
auth = HTTPBasicAuth(realm="datarun")


def user_fault(username: str) -> str | None:
    """Return what is wrong with a user name, or None."""
    length = User.username.type.length
    if username.strip() and len(username) <= length and username.isprintable() and ":" not in username:
        return None
    return f"A user name has 1 to {length} printable characters and no colon."


def password_fault(password: str) -> str | None:
    """Return what is wrong with a password, or None."""
    if len(password) in PASSWORD_LENGTHS and password.isprintable():
        return None
    return f"A password has {PASSWORD_LENGTHS[0]} to {PASSWORD_LENGTHS[-1]} printable characters."


class PasswordCheck:
    """Checks passwords against scrypt hashes, and remembers those that passed so that a poller pays scrypt once.

    What it remembers is an HMAC of the name and the password, under a key that only this process has, and the hash
    that they matched. When the stored hash changes, or the user is gone, nothing that is remembered matches.
    """

    def __init__(self, remembered: int = 1000) -> None:
        self._remembered = remembered  # checks
        self._key = secrets.token_bytes(32)
        self._passed: OrderedDict[bytes, str] = OrderedDict()  # oldest use first
        self._lock = Lock()

    def __call__(self, username: str, password: str, password_hash: str | None) -> bool:
        """True if the password matches; without a hash (no such user), false after the same time."""
        if self.remembers(username, password, password_hash):
            return True
        if not check_password_hash(password_hash or NOBODYS_HASH, password) or password_hash is None:
            return False
        with self._lock:
            self._passed[self._mark(username, password)] = password_hash
            while len(self._passed) > self._remembered:
                self._passed.popitem(last=False)
        return True

    def remembers(self, username: str, password: str, password_hash: str | None) -> bool:
        """True if the password has matched this hash before."""
        mark = self._mark(username, password)
        with self._lock:
            if password_hash is None or self._passed.get(mark) != password_hash:
                return False
            self._passed.move_to_end(mark)
            return True

    def _mark(self, username: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{username}:{password}".encode(), "sha256")


password_matches = PasswordCheck()


STORED_HASH = select(User.password_hash).where(User.username == bindparam("username"))


def stored_hash(username: str) -> str | None:
    """Look the user's password hash up, outside of the request's own transaction."""
    with db.engine.connect() as connection:
        return connection.scalar(STORED_HASH, {"username": username})


def set_password(username: str, password: str) -> None:
    """Create the user, or give it this password. Raise ValueError for a name or password against the rules."""
    if fault := user_fault(username) or password_fault(password):
        raise ValueError(fault)
    values = {"username": username, "password_hash": generate_password_hash(password)}
    change = update(User).where(User.username == username).values(values)
    with db.engine.begin() as connection:
        if connection.execute(change).rowcount:
            return
    try:
        with db.engine.begin() as connection:
            connection.execute(insert(User).values(values))
    except IntegrityError:  # another process has just created it
        with db.engine.begin() as connection:
            connection.execute(change)


def init_app(app: Flask) -> None:
    """Check DATARUN_USERNAME and DATARUN_PASSWORD, and make that user now if the database is there."""
    app.extensions["password_tries"] = PasswordTries()
    username, password = app.config["DATARUN_USERNAME"], app.config["DATARUN_PASSWORD"]
    app.extensions["configured_user"] = (username, password) if password else None
    if (username or password) and (fault := user_fault(username)):
        raise SystemExit(f"not started: DATARUN_USERNAME: {fault}")
    if not password:
        return
    if fault := password_fault(password):
        raise SystemExit(f"not started: DATARUN_PASSWORD: {fault}")
    with app.app_context():
        try:
            if inspect(db.engine).has_table(User.__tablename__):
                ensure_configured_user()
        except DBAPIError as error:
            log.info("user %s: made at the first request, %s", username, unusable(error))
        finally:
            db.engine.dispose()  # no connection may be shared with a process that is forked later


def ensure_configured_user() -> None:
    """Make the user of DATARUN_USERNAME and DATARUN_PASSWORD, once in this process."""
    configured = current_app.extensions["configured_user"]
    if configured is None:
        return
    username, password = configured
    if not password_matches(username, password, stored_hash(username)):
        set_password(username, password)
        log.info("user %s: made from DATARUN_USERNAME and DATARUN_PASSWORD", username)
    current_app.extensions["configured_user"] = None


@auth.verify_password
def verify_password(username: str, password: str) -> str | None:
    """Return the user's name where the password is right.

    Credentials that were right before are so at any time: a program that works goes on, whatever others try from its
    address. Raises TooManyRequests for others, once an address has tried too many wrong passwords.
    """
    if not username:  # nothing was sent: not worth a check
        return None
    ensure_configured_user()
    # against the rules: no such user; and scrypt would take "secret\0" for "secret" (HMAC pads its key with zeros)
    impossible = user_fault(username) or password_fault(password)
    password_hash = None if impossible else stored_hash(username)
    if password_matches.remembers(username, password, password_hash):
        return username
    tries, address = current_app.extensions["password_tries"], source(request.remote_addr)
    tried_name = "" if user_fault(username) else username
    if wait := tries.take(address, tried_name):
        raise TooManyRequests(f"Too many wrong passwords; expected the next in {wait} s.", retry_after=wait)
    if not password_matches(username, password, password_hash):
        log.warning("wrong password from %s", request.remote_addr or address)
        return None
    tries.give_back(address, tried_name)
    return username


@auth.error_handler
def unauthorized(status: int) -> tuple[dict[str, str], int]:
    if "Authorization" not in request.headers:  # Werkzeug cannot read all that may stand there
        return {"detail": "Authentication credentials were not provided."}, status
    return {"detail": "Invalid username/password."}, status
